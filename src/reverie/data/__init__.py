"""Data: sources, decoding, the packed cache, splits, augmentation and the stream of batches."""

from __future__ import annotations

from reverie.data.config import DataConfig
from reverie.data.dataset import Dataset, Rows, open_data
from reverie.data.feed import Feed

__all__ = ["DataConfig", "Dataset", "Feed", "Rows", "open_data"]

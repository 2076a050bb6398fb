"""One loop trains every family; it never asks which one it trains."""

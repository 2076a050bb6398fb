"""Which of several are beaten by none: the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Better = Literal["lower", "higher"]


def pareto_front(points: Sequence[tuple[float, float]], better: tuple[Better, Better]) -> list[int]:
    """The places of points that no other one beats: is as good as in both respects, and better in one.

    Arguments:
        points: two figures each.
        better: which way each is better.
    """
    signs = [1.0 if way == "higher" else -1.0 for way in better]
    scores = [(signs[0] * a, signs[1] * b) for a, b in points]

    def beaten(one: tuple[float, float]) -> bool:
        return any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in scores)

    return [i for i, score in enumerate(scores) if not beaten(score)]

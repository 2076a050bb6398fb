"""Work spread over threads, results in order, only a few at a time in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def worker_count() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and taskset allow fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Applies a function in threads and yields results in the order of the items.

    Threads are enough: Pillow, zlib and hashing let go of the interpreter while they work (measured in
    ``benchmarks/data.py``), and unlike processes they start at once and need no guard in the user's script.
    """
    workers = worker_count()
    waiting: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

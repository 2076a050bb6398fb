"""Errors a user may meet: what is wrong, where, and what to do, in one or two lines."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReverieError(Exception):
    """A failure that the user can understand without a traceback; exit code 1."""

    exit_code = 1


class RequestError(ReverieError):
    """The request itself is wrong (a name, a key, a value, a source); exit code 2."""

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the nearest known name, or lists what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.55)
    if close:

        def likeness(other: str) -> tuple[float, int]:
            # Letters in other places count as much as further letters; of two alike, the one as long.
            return difflib.SequenceMatcher(None, other, name).ratio(), -abs(len(other) - len(name))

        return f"; did you mean '{max(close, key=likeness)}'?"
    return f"; known: {', '.join(known)}" if known else "; there are none"

"""What the ends of a path must be: it leads from less noise to more."""

from __future__ import annotations

from reverie.core.errors import RequestError


def check_rising(low: str, least: float, high: str, most: float) -> None:
    """Checks the ends of a quantity that grows with the noise.

    Arguments:
        low: the name of the path's option at data.
        least: its value.
        high: the name of that at noise.
        most: its value.

    Raises:
        RequestError: the first is not less than the second.
    """
    if not least < most:  # not <: NaN is caught as well
        raise RequestError(f"path.{low} = {least:g} must be less than path.{high} = {most:g}: noise grows with time")


def check_betas(first: float, last: float) -> None:
    """Checks the variances of the first and the last step's noise.

    Raises:
        RequestError: they fall, or lie outside (0, 1).
    """
    if not 0 < first <= last < 1:
        raise RequestError(
            f"betas go from {first:g} to {last:g}: they must rise from the first to the last, and lie between 0 and 1"
        )

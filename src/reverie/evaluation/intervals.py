r"""The ways to come by a figure's 95 % interval.

The interval is of the *expectation* of the figure over redraws of the samples, at the same counts: a figure that is
biased at few samples (the Fréchet distance) has an interval around its biased expectation, never around the limit.
There is no percentile bootstrap here: its resamples hold rows twice, which shifts such figures beyond their own
intervals.

References:
    | Bootstrap Methods: Another Look at the Jackknife (Efron, 1979)
    | https://doi.org/10.1214/aos/1176344552
    | Probable Inference, the Law of Succession, and Statistical Inference (Wilson, 1927)
    | https://doi.org/10.1080/01621459.1927.10502953
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reverie.evaluation.figure import Estimate


def around(value: float, error: float, freedom: float = math.inf, low: float = -math.inf) -> Estimate:
    """An interval around a value from its standard error.

    Arguments:
        value: the estimate.
        error: its standard error; the interval is left out where it is not a finite number.
        freedom: degrees of freedom of Student's t; the normal distribution where infinite.
        low: the least value that is possible.
    """
    if not math.isfinite(error):
        return Estimate(value)
    reach = _quantile(freedom) * error
    return Estimate(value, max(low, value - reach), value + reach)


def of_mean(values: Tensor | Sequence[float]) -> Estimate:
    """The mean of independent values ``[N]`` (rows, or blocks that share none), by Student's t."""
    rows = torch.as_tensor(values, dtype=torch.float64)
    count = len(rows)
    error = float(rows.std()) / count**0.5 if count > 1 else math.nan
    return around(float(rows.mean()), error, count - 1)


def of_share(hits: int, count: int) -> Estimate:
    r"""A share of independent rows, by Wilson's interval, which holds near 0 and 1 too.

    .. math:: \frac{\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4 n^2}}{1 + z^2 / n}
    """
    z, share = _quantile(math.inf), hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # At 0 and 1 an end is the share itself, but for rounding.
    return Estimate(share, max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach)))


def _quantile(freedom: float) -> float:
    """The 0.975 quantile of Student's t."""
    from scipy.stats import norm, t  # slow to import, and needed here only

    return float(norm.ppf(0.975) if math.isinf(freedom) else t.ppf(0.975, freedom))

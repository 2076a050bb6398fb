r"""How alike two images are, pixel by pixel and in structure.

.. math:: \mathrm{PSNR} = 10 \log_{10} \frac{L^2}{\mathrm{MSE}}, \qquad
    \mathrm{SSIM}(x, y) = \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
    {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}, \qquad C_i = (K_i L)^2

with L the range of values, here 1 after mapping [-1, 1] to [0, 1], and local means, variances and covariances under an
11 x 11 Gaussian window of deviation 1.5, averaged over all places where the window fits, and over channels.

References:
    | Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004)
    | https://doi.org/10.1109/TIP.2003.819861
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, DEVIATION = 11, 1.5
K_1, K_2 = 0.01, 0.03


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """The peak signal-to-noise ratio in decibels, ``[B]``; infinite for equal images.

    Arguments:
        x, y: images ``[B, C, H, W]`` in [-1, 1].
    """
    error = (0.5 * (x.double() - y.double())).square().flatten(1).mean(1)
    return -10.0 * error.log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity, ``[B]``, at most 1; images of at least 11 x 11 pixels.

    Arguments:
        x, y: images ``[B, C, H, W]`` in [-1, 1].
    """
    channels = x.shape[1]
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    bell = torch.exp(-0.5 * (places / DEVIATION) ** 2)
    bell = bell / bell.sum()
    window = torch.outer(bell, bell).expand(channels, 1, WINDOW, WINDOW)
    a, b = (0.5 * (image.double() + 1.0) for image in (x, y))
    maps = [F.conv2d(m, window, groups=channels) for m in (a, b, a * a, b * b, a * b)]
    mean_a, mean_b = maps[0], maps[1]
    var_a, var_b, cov = maps[2] - mean_a**2, maps[3] - mean_b**2, maps[4] - mean_a * mean_b
    c_1, c_2 = K_1**2, K_2**2
    found = (2 * mean_a * mean_b + c_1) * (2 * cov + c_2) / ((mean_a**2 + mean_b**2 + c_1) * (var_a + var_b + c_2))
    return found.flatten(1).mean(1)

"""The convolution of networks that a penalty may differentiate twice."""

from __future__ import annotations

from torch import Tensor, nn

from reverie.maths.convolution import convolve


class Convolution(nn.Conv2d):
    """Creates a convolution with the arguments, weights and values of ``nn.Conv2d``: square, undilated, zero-padded."""

    def forward(self, input: Tensor) -> Tensor:
        return convolve(input, self.weight, self.bias, self.stride[0], int(self.padding[0]), self.groups)

r"""The residual discriminator of WGAN-GP and spectral normalisation.

References:
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Appendix E
    | https://arxiv.org/abs/1704.00028
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), Table 4
    | https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.discrimination import Discriminator
from reverie.nn.gan_residual import Blocks, ShrinkBlock, each_stage
from reverie.nn.label import LabelPlanes
from reverie.nn.projection import ProjectedLogit
from reverie.nn.residual import halvings
from reverie.nn.spectral import spectrally_normalised


class Config(Strict):
    """The residual discriminator.

    Arguments:
        width: channels of every stage.
        blocks: residual blocks of each stage, of which the first halves the sides: one number for all, or one each,
            fine to coarse. 17 make more than 101 layers of a 28x28 image.
        branch: the weight of what a block adds to its skip; the authors of WGAN-GP have 0.3 in their 101 layers.
        stop: the side, or the next below, of the coarsest stage; one block more follows there.
        norm: ``layer`` or ``none``.
        spectral: spectral norm, which holds each layer's greatest singular value at one.
        label: the length of a label's vector.
        label_at: where labels come in: ``head``, as an inner product with the features, or ``input``, concatenated.
    """

    width: int = Field(64, ge=1)
    blocks: Blocks = 1
    branch: float = Field(1.0, gt=0.0)
    stop: int = Field(7, ge=1)
    norm: Literal["layer", "none"] = "none"
    spectral: bool = False
    label: int = Field(32, ge=1)
    label_at: Literal["head", "input"] = "head"


class Network(Discriminator):
    """Creates the discriminator: residual stages that halve the sides, ReLU, the sum over places.

    Arguments:
        config: its options.
        space: images ``(C, H, W)``.
    """

    def __init__(self, config: Config, space: Space) -> None:
        super().__init__()
        joined = space.classes if config.label_at == "input" else 0
        self.planes = LabelPlanes(joined) if joined else None
        channels, height, width = space.image("resnet")
        stages = len(halvings(height, width, config.stop)) - 1
        shrinks = [block == 0 for blocks in each_stage(config.blocks, stages) for block in range(blocks)] + [False]
        inputs = [channels + joined] + [config.width] * (len(shrinks) - 1)
        self.stages = nn.Sequential(
            *(
                ShrinkBlock(before, config.width, shrink, config.norm, i == 0, config.branch)
                for i, (before, shrink) in enumerate(zip(inputs, shrinks, strict=True))
            )
        )
        self.feature_count = config.width
        self.head = ProjectedLogit(config.width, 0 if joined else space.classes, config.label)
        nn.init.xavier_uniform_(self.head.logit.weight)
        if config.spectral:
            spectrally_normalised(self)

    def features(self, x: Tensor) -> Tensor:
        """Returns the last layer's features."""
        return torch.relu(self.stages(x)).float().sum((2, 3))

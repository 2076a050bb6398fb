r"""The residual generator of WGAN-GP and spectral normalisation.

References:
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Appendix E
    | https://arxiv.org/abs/1704.00028
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), Table 4
    | https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core.batch import Condition
from reverie.core.space import Space
from reverie.core.strict import Strict
from reverie.nn.gan_residual import Blocks, GrowBlock, each_stage
from reverie.nn.label import LabelVector
from reverie.nn.residual import halvings


class Config(Strict):
    """The residual generator.

    Arguments:
        width: channels of every stage.
        blocks: residual blocks of each stage, of which the first doubles the sides: one number for all, or one each,
            coarse to fine. 17 make more than 101 layers of a 28x28 image.
        branch: the weight of what a block adds to its skip; the authors of WGAN-GP have 0.3 in their 101 layers.
        stop: the side, or the next below, of the coarsest stage.
        norm: batch norm, or none.
        label: the length of a label's vector, which is concatenated to z.
    """

    width: int = Field(64, ge=1)
    blocks: Blocks = 1
    branch: float = Field(1.0, gt=0.0)
    stop: int = Field(4, ge=1)
    norm: bool = True
    label: int = Field(32, ge=1)


class Network(nn.Module):
    """Creates the generator: a linear layer, residual stages that double the sides, a 3x3 convolution, tanh.

    Arguments:
        config: its options.
        space: images ``(C, H, W)``.
        latent: the length of z.
    """

    def __init__(self, config: Config, space: Space, latent: int) -> None:
        super().__init__()
        channels, height, width = space.image("resnet")
        sizes = halvings(height, width, config.stop)[::-1]  # coarse to fine
        self.coarsest = sizes[0]
        self.label = LabelVector(space.classes, config.label)
        self.start = nn.Linear(latent + self.label.width, config.width * sizes[0][0] * sizes[0][1])
        nn.init.xavier_uniform_(self.start.weight)
        self.stages = nn.Sequential(
            *(
                GrowBlock(config.width, config.width, size if block == 0 else None, config.norm, config.branch)
                for size, blocks in zip(sizes[1:], each_stage(config.blocks, len(sizes) - 1), strict=True)
                for block in range(blocks)
            )
        )
        self.norm = nn.BatchNorm2d(config.width) if config.norm else nn.Identity()
        self.last = nn.Conv2d(config.width, channels, 3, padding=1)
        nn.init.xavier_uniform_(self.last.weight)

    def forward(self, z: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns images ``[B, C, H, W]`` in [-1, 1] for z ``[B, latent]``."""
        z = torch.cat([z, self.label(condition, len(z), z.device)], dim=1)
        x = self.stages(self.start(z).view(len(z), -1, *self.coarsest))
        return torch.tanh(self.last(torch.relu(self.norm(x))).float())

r"""The variational autoencoder: a decoder p(x|z), a prior p(z) = N(0, I) and an encoder q(z|x), trained on the bound

.. math:: \log p(x) \ge E_{q(z|x)} \log p(x|z) - KL(q(z|x), p(z))

Code (paper): ``mean, log_sigma`` (mu, log sigma of Equation 9), ``likelihood`` (log p_theta(x|z)).

References:
    | Auto-Encoding Variational Bayes (Kingma and Welling, 2013), Equation 10 and Appendix B
    | https://arxiv.org/abs/1312.6114
    | PixelCNN++ (Salimans, Karpathy, Chen and Kingma, 2017), Equation 2: the discretised logistic
    | https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reverie.core import catalog
from reverie.core import model as core
from reverie.core.batch import Condition
from reverie.core.choice import Choice, auto
from reverie.core.errors import RequestError
from reverie.core.noise import Noise
from reverie.core.player import Loss, OptimizerConfig, Player, Turn
from reverie.core.space import Space
from reverie.maths import densities
from reverie.samplers.guidance.classifier_free import drop_labels

LOG_SIGMA = (-9.0, 5.0)
"""Bounds of every predicted log sigma: exp of anything beyond is of no use and would overflow."""


class Sampling(core.Sampling):
    """How samples are drawn.

    Arguments:
        temperature: the standard deviation of z; the prior's is 1.
        pixels: ``mean`` of p(x|z), which is smooth, or a ``sample`` of it, which is what the bound measures.
    """

    temperature: float = Field(1.0, ge=0)
    pixels: Literal["mean", "sample"] = "mean"


class Config(core.ModelConfig):
    """The model's configuration.

    Arguments:
        latent: the length of z; ``auto`` is 32 for images and the rows' own length for points.
        likelihood: p(x|z); ``auto`` is Bernoulli for two-valued data, the discretised logistic for other discrete data
            (bytes) and Gaussian for continuous data.
        beta: the weight of the KL term; 1 is the bound itself.
        drop_label: how often a label is withheld in training, so that the model also knows rows without one.
        encoder: the network of q(z|x).
        decoder: the network of p(x|z).
        optimizer: how both step.
        sampling: how samples are drawn.
    """

    latent: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    likelihood: Literal["auto", "bernoulli", "logistic", "gaussian"] = "auto"
    beta: float = Field(1.0, ge=0)
    drop_label: float = Field(0.1, ge=0, le=1)
    encoder: Choice = Choice(name="auto")
    decoder: Choice = Choice(name="auto")
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-3, warmup=200, schedule="cosine")
    sampling: Sampling = Sampling()


class VAE(core.Model):
    """Creates a variational autoencoder.

    Arguments:
        config: the model's configuration.
        space: what one row is.
        parts: none.
    """

    config: Config
    networks: ClassVar[dict[str, tuple[str, Choice]]] = {
        "encoder": ("encoder", auto("conv")),
        "decoder": ("decoder", auto("conv")),
    }

    def __init__(self, config: Config, space: Space, parts: Mapping[str, core.Part]) -> None:
        super().__init__(config, space, parts)
        self.kind = likelihood_kind(config.likelihood, space)
        latent = config.latent if config.latent != "auto" else 32 if space.is_image else space.size
        self.latents = (Space((latent,)),)
        role, choice = self.networks["encoder"]
        self.encoder = catalog.network(role, config.encoder, space, choice, outputs=2 * latent)
        role, choice = self.networks["decoder"]
        outputs = 1 if self.kind == "bernoulli" else 2
        self.decoder = catalog.network(role, config.decoder, space, choice, latent=latent, outputs=outputs)

    def players(self) -> Sequence[Player]:
        modules = (self.encoder, self.decoder)
        return [Player(name="vae", modules=modules, loss=self.loss, optimizer=self.config.optimizer)]

    def averaged(self) -> Sequence[nn.Module]:
        return [self.encoder, self.decoder]

    def loss(self, turn: Turn) -> Loss:
        """The negative bound in nats per row, in its two terms (Equation 10, one sample of z)."""
        condition = drop_labels(turn.batch.condition, turn.noise.fork("drop"), self.config.drop_label)
        log_likelihood, kl = self._bound(turn.batch.x, turn.noise, condition)
        elbo = (log_likelihood - kl).mean()
        return Loss(
            terms={"reconstruction": -log_likelihood.mean(), "kl": self.config.beta * kl.mean()},
            figures={"elbo": elbo, "bits_per_dim": densities.bits_per_dim(elbo, self.space.size)},
        )

    def elbo(self, x: Tensor, noise: Noise, condition: Condition | None = None) -> Tensor:
        """Returns the bound of log p(x), of the probability of the levels where data is discrete, ``[B]``."""
        log_likelihood, kl = self._bound(x, noise, condition)
        return log_likelihood - kl

    def posterior(self, x: Tensor, noise: Noise) -> tuple[tuple[Tensor, ...], Tensor]:
        mean, log_sigma = self._encode(x, None)
        z = mean + torch.exp(log_sigma) * noise.normal(mean.shape[1])
        return (z,), densities.gaussian_log_prob(z, mean, log_sigma).sum(1)

    def likelihood(self, x: Tensor, z: tuple[Tensor, ...]) -> Tensor:
        return self._log_likelihood(x, self.decoder(z[0], None))

    def log_prior(self, z: tuple[Tensor, ...]) -> Tensor:
        zero = torch.zeros_like(z[0])
        return densities.gaussian_log_prob(z[0], zero, zero).sum(1)

    def encode(self, x: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        mean, log_sigma = self._encode(x, None)
        return (mean if noise is None else mean + torch.exp(log_sigma) * noise.normal(mean.shape[1]),)

    def decode(self, z: tuple[Tensor, ...]) -> Tensor:
        return self._mean(self.decoder(z[0], None))

    def sample(self, noise: Noise, condition: Condition | None = None, how: Sampling | None = None) -> Tensor:
        how = how or self.config.sampling
        z = how.temperature * noise.normal(*self.latents[0].shape)
        parameters = self.decoder(z, condition)
        if how.pixels == "mean":
            return self._mean(parameters)
        return self._draw(parameters, noise.fork("pixels"))

    def _bound(self, x: Tensor, noise: Noise, condition: Condition | None) -> tuple[Tensor, Tensor]:
        """Returns log p(x|z) at one z ~ q(z|x), and KL(q(z|x), p(z)) in closed form (Appendix B), each ``[B]``."""
        x = self._spread(x, noise)
        mean, log_sigma = self._encode(x, condition)
        z = mean + torch.exp(log_sigma) * noise.fork("z").normal(mean.shape[1])  # Equation 4
        return self._log_likelihood(x, self.decoder(z, condition)), densities.gaussian_kl(mean, log_sigma).sum(1)

    def _spread(self, x: Tensor, noise: Noise) -> Tensor:
        """Discrete rows spread over their bins where p(x|z) is a density, so that the bound is one of probabilities."""
        if self.kind != "gaussian" or self.space.depth is None:
            return x
        return densities.dequantise(x, noise.fork("dequantise").uniform(*x.shape[1:]), self.space.depth)

    def _encode(self, x: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
        mean, log_sigma = self.encoder(x, condition).float().chunk(2, dim=1)
        return mean, log_sigma.clamp(*LOG_SIGMA)

    def _log_likelihood(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Returns log p(x|z), ``[B]``, for what the decoder said, ``[B, outputs, *shape]``."""
        if self.kind == "bernoulli":
            return densities.bernoulli_log_prob(x, parameters[:, 0]).flatten(1).sum(1)
        mean, log_scale = parameters[:, 0], parameters[:, 1].clamp(*LOG_SIGMA)
        if self.kind == "gaussian":
            volume = 0.0 if self.space.depth is None else self.space.size * densities.log_bin(self.space.depth)
            return densities.gaussian_log_prob(x, mean, log_scale).flatten(1).sum(1) + volume
        assert self.space.depth is not None
        return densities.discretised_logistic_log_prob(x, mean, log_scale, self.space.depth).flatten(1).sum(1)

    def _mean(self, parameters: Tensor) -> Tensor:
        if self.kind == "bernoulli":
            return 2.0 * torch.sigmoid(parameters[:, 0]) - 1.0
        mean = parameters[:, 0]
        if self.kind == "logistic":
            return densities.cut_logistic_mean(mean, parameters[:, 1].clamp(*LOG_SIGMA))
        return mean.clamp(-1.0, 1.0) if self.space.is_image else mean

    def _draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        shape = self.space.shape
        if self.kind == "bernoulli":
            return torch.where(noise.uniform(*shape) < torch.sigmoid(parameters[:, 0]), 1.0, -1.0)
        mean, log_scale = parameters[:, 0], parameters[:, 1].clamp(*LOG_SIGMA)
        if self.kind == "gaussian":
            x = mean + torch.exp(log_scale) * noise.normal(*shape)
            return x.clamp(-1.0, 1.0) if self.space.is_image else x
        assert self.space.depth is not None
        u = noise.uniform(*shape).clamp(1e-6, 1.0 - 1e-6)
        return densities.snap(densities.logistic_quantile(u, mean, log_scale), self.space.depth)


def likelihood_kind(choice: str, space: Space) -> str:
    """The likelihood that suits the data.

    Raises:
        RequestError: a discrete likelihood was asked for continuous data, or Bernoulli for more than two values.
    """
    if choice == "auto":
        return "gaussian" if space.depth is None else "bernoulli" if space.depth == 2 else "logistic"
    if choice == "bernoulli" and space.depth != 2:
        raise RequestError("model.likelihood = bernoulli needs two-valued data: set data.binarize=once")
    if choice == "logistic" and space.depth is None:
        raise RequestError("model.likelihood = logistic needs discrete data such as bytes; these rows are continuous")
    return choice

r"""Guided backpropagation: what in an image a feature of the critic answers to.

The gradient of a feature is taken back to the image, and at every ReLU what argues against the feature is stopped:

.. math:: R^l_i = \max(R^{l+1}_i, 0)\; a'(f^l_i)

with :math:`R^{l+1}` the gradient after the activation a, and :math:`f^l` what came into it. For a ReLU a' is 1 where
the unit was active, for a leaky one the slope elsewhere. A critic that has learned nothing answers to anything; one
that has learned answers to strokes, eyes, windows.

References:
    | Striving for Simplicity: The All Convolutional Net (Springenberg et al., 2015), Figure 1
    | https://arxiv.org/abs/1412.6806
    | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks
    | (Radford, Metz and Chintala, 2016), Section 6.2 and Figure 5: of a critic, beside random filters
    | https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm

from reverie.core.batch import Condition
from reverie.core.capabilities import Criticises
from reverie.core.errors import RequestError
from reverie.core.model import Model
from reverie.nn.discrimination import Discriminator
from reverie.nn.minibatch import MinibatchFeatures

BLOCK = 128
RECTIFIER = re.compile(r"(Relu|LeakyRelu|_Leak)Backward\d*")
"""What autograd calls the ReLUs of torch, functional, in place or modules, and the one of ``maths/convolution.py``."""


class Critic:
    """The features of a model's critic, as the model's own scores use them.

    Arguments:
        model: in eval mode; its scores pass a ``Discriminator``.

    Raises:
        RequestError: the model has no such critic.
    """

    def __init__(self, model: Model) -> None:
        scores = model.view(Criticises)
        network = next((m for m in model.modules() if isinstance(m, Discriminator)), None)
        if scores is None or network is None:
            raise RequestError(
                "this model has no critic whose features could be shown, as GANs with a discriminator do"
            )
        self.model, self.network, self._scores = model, network, scores
        crowd = sum(m.shape[0] for m in network.modules() if isinstance(m, MinibatchFeatures))
        self.count = network.feature_count - crowd  # how close a row lies to others is no feature of the row

    def features(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """Returns features ``[B, count]`` of rows ``[B, *space.shape]``."""
        # Asked of the scores, since some models put layers before the discriminator.
        with _overheard(self.network) as heard:
            self._scores.score(x, condition)
        if not heard:
            raise RequestError("this model's scores do not come from its discriminator, whose features are none then")
        return heard[0][:, : self.count]

    def settle(self, x: Tensor, condition: Condition) -> None:
        """Gives layers that follow the rows in training, such as batch norm, the state that they have on these."""
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean
        self.model.train()
        with torch.no_grad():
            self.features(x, condition)
        self.model.eval()


@contextmanager
def _overheard(network: Discriminator) -> Iterator[list[Tensor]]:
    """What the network's ``features`` returns within."""
    heard: list[Tensor] = []
    features = network.features

    def listen(x: Tensor) -> Tensor:
        heard.append(features(x))
        return heard[-1]

    network.features = listen  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        del network.features


def portraits(critic: Critic, x: Tensor, condition: Condition, count: int = 6, each: int = 3) -> Tensor:
    """The features that vary most over some rows, each by the rows that activate it most and their guided gradients.

    Arguments:
        critic: whose features.
        x: rows to choose from, images.
        condition: of the rows.
        count: how many features.
        each: how many rows of each.

    Returns:
        ``[2 * each * count, *space.shape]`` in [-1, 1], lines of ``count``, a column a feature: a line of rows, below
        it their gradients (grey where a pixel does not matter), and again.

    Raises:
        RequestError: the critic has fewer features, or no ReLU.
    """
    if count > critic.count:
        raise RequestError(f"this model's critic has {critic.count} features, {count} cannot be shown")
    blocks = [slice(i, i + BLOCK) for i in range(0, len(x), BLOCK)]
    with torch.no_grad():
        h = torch.cat([critic.features(x[b], condition.rows(b.start, b.stop)).float() for b in blocks])
    chosen = h.var(0, correction=0).topk(count).indices  # [count]
    most = h[:, chosen].topk(min(each, len(x)), dim=0).indices  # [each, count]
    lines = []
    for rows in most:
        labels = None if condition.label is None else condition.label[rows]

        def features(some: Tensor, labels: Tensor | None = labels) -> Tensor:
            return critic.features(some, Condition(label=labels))

        lines += [x[rows], shown(guided_gradient(features, x[rows], chosen))]
    return torch.cat(lines)


def guided_gradient(features: Callable[[Tensor], Tensor], x: Tensor, places: Tensor) -> Tensor:
    """The guided gradient of one feature of each row with respect to that row.

    Arguments:
        features: from rows ``[B, ...]`` to ``[B, F]``.
        x: rows.
        places: int64 ``[B]``, which feature of each row.

    Returns:
        Shaped like ``x``.

    Raises:
        RequestError: there is no ReLU on the way.
    """
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        chosen = features(x).gather(1, places[:, None]).sum()
        rectifiers = [node for node in _nodes(chosen.grad_fn) if RECTIFIER.fullmatch(node.name())]
        if not rectifiers:
            raise RequestError("guided backpropagation goes through ReLUs, and this model's critic has none")
        for node in rectifiers:
            node.register_prehook(_positive)
        (gradient,) = torch.autograd.grad(chosen, x)
    return gradient


def shown(gradient: Tensor) -> Tensor:
    """Gradients as images: each divided by its greatest size, so that 0 is grey."""
    greatest = gradient.flatten(1).abs().amax(1).clamp(min=torch.finfo(gradient.dtype).tiny)
    return gradient / greatest.view(-1, *[1] * (gradient.ndim - 1))


def _positive(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(g.clamp(min=0.0) for g in gradients)


def _nodes(end: Node | None) -> Iterator[Node]:
    """Every step of the backward pass that begins at ``end``."""
    found, waiting = set(), [end]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [before for before, _ in node.next_functions]
            yield node

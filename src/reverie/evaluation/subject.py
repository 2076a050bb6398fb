"""What is measured: a run's model, its samples, and the real rows that they are held against, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

import reverie
from reverie.core.batch import Asks
from reverie.core.capabilities import Observes
from reverie.core.errors import ReverieError
from reverie.core.images import from_bytes, to_bytes
from reverie.core.model import Model
from reverie.core.run import Run
from reverie.core.sampling import stream
from reverie.data.dataset import Dataset
from reverie.evaluation.features.features import Features
from reverie.evaluation.moments import Moments, training_moments

KEPT = 50_000  # rows a side whose features are kept, at most
KEPT_VALUES = 2**25  # and numbers in them, at most: memory stays flat in samples and in rows
FIRST = 512  # samples whose pixels are kept
SHOWN_POINTS = 50_000  # points kept in their place


@dataclass(frozen=True)
class Drawn:
    """Samples as metrics see them.

    Arguments:
        count: how many were drawn.
        moments: of the features of all.
        features: of the first ones, ``[n, D]``; all of them where n is ``count``.
        labels: that all were asked to have, ``[count]``, -1 where none.
        guesses: the class that the feature classifier takes each for, ``[count]``; None without a classifier.
        sure: how sure of it the classifier is, ``[count]``; likewise.
        first: the first samples themselves, as they were drawn, ``[m, *space.shape]``.
    """

    count: int
    moments: Moments
    features: Tensor
    labels: Tensor
    guesses: Tensor | None
    sure: Tensor | None
    first: Tensor


@dataclass(frozen=True)
class Reference:
    """Real rows as metrics see them, in an order of no meaning.

    Arguments:
        train: moments of the features of all training rows.
        rest: of those that do not stand in for samples: what the floor is measured against.
        held: features of held-out rows, ``[h, D]``.
        rows: features of training rows that do not stand in for samples, ``[r, D]``.
        stand_in: features of real rows in place of the samples, as many as there are samples where the data are
            enough, ``[s, D]``: held-out rows first, then training rows.
    """

    train: Moments
    rest: Moments
    held: Tensor
    rows: Tensor
    stand_in: Tensor


def shuffled(count: int, stream: int = 0) -> np.ndarray:
    """The places of rows in an order of no meaning; always the same one, so that only samples differ between seeds."""
    return np.random.Generator(np.random.Philox(stream)).permutation(count)


class Subject:
    """Creates what is measured.

    Arguments:
        run: the run.
        model: its model, loaded, on its device.
        dataset: the data to measure against.
        features: where distances between rows are measured.
        count: how many samples to draw.
        seed: of the samples and of whatever else is drawn.
        batch: rows computed at once; changes memory and speed only.
        likelihood_rows: held-out rows whose likelihood is measured, at most.
        cache: where statistics of real rows are kept; see ``reverie.data.cache``.
        say: told what is going on, a line at a time.
        progress: called with (samples drawn, samples in all).
    """

    def __init__(
        self,
        run: Run,
        model: Model,
        dataset: Dataset,
        features: Features,
        *,
        count: int,
        seed: int = 0,
        batch: int = 256,
        likelihood_rows: int = 1024,
        cache: str | None = None,
        say: Callable[[str], None] = print,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.run, self.model, self.dataset, self.features = run, model, dataset, features
        self.count, self.seed, self.batch, self.likelihood_rows = count, seed, batch, likelihood_rows
        self.cache, self.say, self.progress = cache, say, progress
        self._drawn: Drawn | ReverieError | None = None
        self.left_out: dict[str, str] = {}  # figures that there are too few rows for, and why

    @property
    def kept(self) -> int:
        """Rows a side whose features are kept, at most."""
        return min(KEPT, KEPT_VALUES // self.features.size)

    @cached_property
    def asks(self) -> Asks | None:
        """What samples are drawn for, where the model draws from maps: those of held-out rows."""
        return self.dataset.asks(self.model.space, self.model.view(Observes))

    @property
    def drawn(self) -> Drawn:
        """The samples, drawn when they are first asked for.

        Raises:
            ReverieError: the model fails, or its samples are not finite; the same again each time it is asked.
        """
        if self._drawn is None:
            self.say(f"drawing {self.count:,} samples")
            try:
                self._drawn = self._draw()
            except ReverieError as error:
                self._drawn = error
        if isinstance(self._drawn, ReverieError):
            raise self._drawn
        return self._drawn

    @cached_property
    def reference(self) -> Reference:
        """The real rows."""
        dataset, features = self.dataset, self.features
        # A source may be sorted by class, and only the first rows of a side may be used.
        held_order = shuffled(len(dataset.held_out))[: self.kept]
        held = self._features_of(dataset.held_out, held_order)
        train_order = shuffled(len(dataset.train), 1)
        lent = min(max(0, self.count - len(held)), len(dataset.train) // 2, self.kept)
        lent_rows = self._features_of(dataset.train, train_order[:lent])
        train = training_moments(dataset, features, self.cache)
        return Reference(
            train=train,
            rest=train.without(Moments(features.size).add(lent_rows)) if lent else train,
            held=held,
            rows=self._features_of(dataset.train, train_order[lent : lent + self.kept]),
            stand_in=torch.cat([held, lent_rows])[: self.count],
        )

    def recipe(self, metric: str, rows: int, against: str) -> str:
        """What a figure is of: two figures with the same text may be compared, others may not.

        Arguments:
            metric: its name and its own settings, as in ``coverage k=5``.
            rows: how many samples.
            against: what they are held against, with counts, as in ``10,000 training rows``.
        """
        data = f"data {self.dataset.rows_hash[:12]} (held out: {self.dataset.config.held_out:g})"
        return f"{metric} | {self.features.key} | {rows:,} samples, {against} | {data} | reverie {reverie.__version__}"

    def _features_of(self, rows: object, index: np.ndarray) -> Tensor:
        found = torch.cat([torch.empty(0, self.features.size), *self.features.of_rows(rows, np.sort(index))])  # type: ignore[arg-type]
        return found[torch.from_numpy(np.argsort(np.argsort(index)))]  # read in order, and put as asked

    def _draw(self) -> Drawn:
        features, classifier, image = self.features, self.features.classifier, self.model.space.is_image
        moments, kept, first, done = Moments(features.size), [], [], 0
        # Set aside whole: small tensors kept from each batch would lie between freed large ones, and memory would grow.
        labels = torch.full((self.count,), -1)
        guesses, sure = (torch.empty(self.count, dtype=kind) for kind in (torch.int64, torch.float32))
        try:
            for chunk in stream(self.model, self.count, self.seed, condition=self.asks, batch=self.batch):
                x = from_bytes(to_bytes(chunk.x)) if image else chunk.x
                rows = features.extract(x)
                # Bytes hide what is not a number: the samples themselves must be asked.
                if not (torch.isfinite(rows).all() and torch.isfinite(chunk.x).all()):
                    bad = int((~torch.isfinite(chunk.x.flatten(1)).all(1)).sum()) or len(x)
                    raise ReverieError(
                        f"{bad} of the samples {done} to {done + len(x) - 1} are not finite: the model broke"
                    )
                moments.add(rows)
                if done < self.kept:
                    kept.append(rows[: self.kept - done].clone())
                if done < (FIRST if image else SHOWN_POINTS):
                    first.append(chunk.x[: (FIRST if image else SHOWN_POINTS) - done].clone())
                here = slice(done, done + len(x))
                if chunk.labels is not None:
                    labels[here] = chunk.labels
                if classifier is not None:
                    sure[here], guesses[here] = classifier.logits(rows).softmax(1).max(1)
                done += len(x)
                if self.progress:
                    self.progress(done, self.count)
        except ReverieError:
            raise
        except Exception as error:  # whatever a model may raise: what was measured before is kept
            line = (str(error) or type(error).__name__).splitlines()[0]
            raise ReverieError(f"the model failed while drawing sample {done} of {self.count}: {line}") from error
        return Drawn(
            self.count,
            moments,
            torch.cat(kept),
            labels,
            None if classifier is None else guesses,
            None if classifier is None else sure,
            torch.cat(first),
        )

"""The workbench of an evaluation: a model, real images and a judge, and what they share.

Everything is made once, in batches, without autograd, and through uint8: models are compared on
what they would save to a file. Draws are functions of the seed, made for all images at once, so
that the batch size changes nothing but rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaegan.batching import BATCH
from vaegan.data import Dataset, Split
from vaegan.errors import DataError, Unsupported
from vaegan.inference import decode_pixels, encode_pixels, sample_pixels
from vaegan.metrics.classifier import TrainingSettings
from vaegan.metrics.distances import Reference
from vaegan.metrics.fidelity import sharpness
from vaegan.metrics.judge import Judge
from vaegan.metrics.latents import AggregatePosterior
from vaegan.metrics.morphometrics import Morphometrics, measure
from vaegan.model import Model
from vaegan.posterior import Posterior
from vaegan.randomness import generator, key

__all__ = ["Bench"]

FITTED = 5000
STROKE = 1 / 6  # a stroke is thinner than this share of the image; clothes and faces are not


@dataclass(frozen=True, eq=False)
class Bench:
    """What every part of an evaluation works on.

    n: number of real images and of generated images of each kind. classifier: how those of the
    classification accuracy score are trained, `diversity.CAS_SETTINGS` when None. Raises DataError
    when the data set has no test images or is not labelled as the model was.
    """

    model: Model
    dataset: Dataset
    judge: Judge
    n: int
    seed: int = 0
    batch: int = BATCH
    classifier: TrainingSettings | None = None

    def __post_init__(self) -> None:
        if not len(self.dataset.test):
            raise DataError(f"data set {self.dataset.name!r} has no test images to evaluate on")
        if self.n < 2 or self.batch < 1:
            raise DataError(f"n (={self.n}) must be at least 2, batch (={self.batch}) at least 1")
        classes = self.model.config.num_classes
        if classes and classes != self.dataset.num_classes:
            raise DataError(
                f"data set {self.dataset.name!r} has {self.dataset.num_classes} classes; this "
                f"model was trained with {classes}"
            )

    # ── real images ──────────────────────────────────────────────────────────────────────────

    @cached_property
    def real(self) -> Split:
        """Up to n test images; all of them when there are no more."""
        return self._chosen(self.dataset.test, "real", self.n)

    @cached_property
    def training(self) -> Split:
        """Up to n training images: the floor."""
        return self._chosen(self.dataset.train, "training", self.n)

    @cached_property
    def fitting(self) -> Split:
        """As many training images, or 5,000 if that is more: what is fitted is fitted to these."""
        return self._chosen(self.dataset.train, "training", max(self.n, FITTED))

    def _chosen(self, split: Split, purpose: str, n: int) -> Split:
        if len(split) <= n:
            return split
        return split.take(np.sort(self.random(purpose).permutation(len(split))[:n]))

    @property
    def count(self) -> int:
        """Number of real images, and of generated ones of each kind."""
        return len(self.real)

    @property
    def classes(self) -> int:
        """Number of classes of the data, 0 when it is unlabelled."""
        return self.dataset.num_classes

    @property
    def conditional(self) -> bool:
        """Whether the model is told labels."""
        return self.model.config.num_classes > 0

    def labels(self) -> np.ndarray:
        """Labels of the real images; Unsupported for unlabelled data."""
        if self.real.labels is None:
            raise Unsupported(f"the data set {self.dataset.name!r} has no labels")
        return self.real.labels

    # ── what the judge reads ─────────────────────────────────────────────────────────────────

    def read(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The judge's features (N, F), and its logits (N, K), None for unlabelled data."""
        if not self.judge.num_classes:
            return self.judge.features(pixels), None
        return self.judge.read(pixels)

    @cached_property
    def real_features(self) -> np.ndarray:
        """The judge's features of the real images (N, F)."""
        return self.judge.features(self.real.pixels)

    @cached_property
    def reference(self) -> Reference:
        """The same, as several sets are compared with them."""
        return Reference(self.real_features)

    @cached_property
    def real_sharpness(self) -> dict[str, np.ndarray]:
        """`fidelity.sharpness` of the real images."""
        return sharpness(self.real.pixels)

    @cached_property
    def real_strokes(self) -> Morphometrics | None:
        """Morphometrics of the real images, None where these are not drawn in strokes.

        Strokes are bright on dark, in one channel, and thinner than a sixth of the image.
        """
        if self.dataset.channels != 1:
            return None
        sample = measure(self.real.pixels[:200])
        limit = STROKE * min(self.dataset.image_size)
        dark = np.median(self.real.pixels[:200]) < 128
        if not dark or sample.blank.mean() > 0.1 or not np.nanmedian(sample.thickness) < limit:
            return None
        return measure(self.real.pixels)

    # ── what the model makes ─────────────────────────────────────────────────────────────────

    def encode(self, pixels: np.ndarray, labels: np.ndarray | None) -> Posterior:
        """Posteriors (N, latent_dim) of pixels, on the CPU; Unsupported for a GAN."""
        config = self.model.config
        if "encoder" not in config.networks:
            raise Unsupported(f"system {config.system!r} has no encoder")
        return encode_pixels(self.model, pixels, labels, self.batch)

    def decode(self, latents: Tensor, labels: np.ndarray | None) -> np.ndarray:
        """Latents (N, latent_dim) -> pixels uint8 (N, H, W, C)."""
        return decode_pixels(self.model, latents, labels, self.batch)

    @cached_property
    def posterior(self) -> Posterior:
        """Posteriors of the real images."""
        return self.encode(self.real.pixels, self.real.labels)

    @cached_property
    def reconstructions(self) -> np.ndarray:
        """decode(encode(x).mode()) of the real images, pixels."""
        return self.decode(self.posterior.mode(), self.real.labels)

    @cached_property
    def prior_samples(self) -> np.ndarray:
        """As many draws from the prior as there are real images, under the labels of these."""
        config = self.model.config
        if config.family == "ae":
            raise Unsupported(f"system {config.system!r} has no prior")
        normal = self.normal("prior", self.count)
        return sample_pixels(self.model, normal, self.real.labels, self.batch)

    @cached_property
    def aggregate_samples(self) -> np.ndarray:
        """As many draws from the aggregate posterior, under the labels of the real images."""
        return self.decode(self.aggregate_latents(), self.real.labels)

    @cached_property
    def aggregate(self) -> AggregatePosterior:
        """The density of the codes of each class of training images; of all without labels."""
        split = self.fitting
        posterior = self.encode(split.pixels, split.labels)
        means = posterior.mean.numpy()
        point = np.full_like(means, -80.0)  # log of a variance too small to see
        logvars = point if posterior.logvar is None else posterior.logvar.numpy()
        return AggregatePosterior(means, logvars, split.labels)

    def aggregate_latents(self) -> Tensor:
        """Draws (N, latent_dim) from the density of each real image's class."""
        labels, size = self.real.labels, self.model.config.latent_dim
        seed = int(self.random("aggregate").integers(1 << 32))
        if labels is None:
            return torch.from_numpy(self.aggregate.sample(self.count, seed=seed))
        latents = np.empty((self.count, size), np.float32)
        for label in np.unique(labels).tolist():
            rows = labels == label
            latents[rows] = self.aggregate.sample(int(rows.sum()), label, seed + label)
        return torch.from_numpy(latents)

    # ── randomness ───────────────────────────────────────────────────────────────────────────

    def normal(self, purpose: str, count: int) -> Tensor:
        """N(0, I) draws (count, latent_dim), a function of the seed and the purpose."""
        own = generator(self.seed, "evaluation", purpose)
        return torch.randn(count, self.model.config.latent_dim, generator=own)

    def random(self, purpose: str) -> np.random.Generator:
        """A NumPy generator for one purpose."""
        return np.random.default_rng(key(self.seed, "evaluation", purpose))

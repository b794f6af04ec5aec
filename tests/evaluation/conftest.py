"""Drawn glyphs whose style is known exactly, and models planted to be perfect or to fail."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vaegan.config import ModelConfig
from vaegan.data import Dataset, Split
from vaegan.images import to_images, to_pixels
from vaegan.metrics.classifier import TrainingSettings
from vaegan.metrics.judge import Judge
from vaegan.posterior import Posterior
from vaegan.settings import resolve

QUICK = TrainingSettings(width=8, num_features=12, steps=80, batch=64)
SIDE = 28
# Strokes of each class from (x, y) to (x, y), y down, before the slant: I, L, T.
STROKES = (
    (((0, -8), (0, 8)),),
    (((-2, -8), (-2, 8)), ((-2, 8), (6, 8))),
    (((0, -8), (0, 8)), ((-6, -8), (6, -8))),
)


def draw(styles: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Glyphs (N, 28, 28, 1): style (N, 2) is N(0, 1); thickness 3 + 0.5 s0 px, slant 0.2 s1 rad."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    pixels = np.zeros((len(styles), SIDE, SIDE, 1), np.uint8)
    for i, ((thick, slant), label) in enumerate(zip(styles.astype(float), labels)):
        nearest = np.full((SIDE, SIDE), np.inf)
        for start, end in STROKES[label]:
            (ax, ay), (bx, by) = ((px - np.tan(0.2 * slant) * py, py) for px, py in (start, end))
            along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / np.hypot(bx - ax, by - ay) ** 2
            along = along.clip(0, 1)
            nearest = np.minimum(
                nearest, np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
            )
        ink = (0.5 + max(3 + 0.5 * thick, 1.2) / 2 - nearest).clip(0, 1)
        pixels[i, ..., 0] = np.round(255 * ink)
    return pixels


def glyphs(seed: int, count: int) -> tuple[np.ndarray, Split]:
    """Styles (N, 2) and the split drawn from them, the classes taking turns."""
    styles = np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)
    styles = styles.clip(-2.5, 2.5)
    labels = np.arange(count) % 3
    return styles, Split(draw(styles, labels), labels)


@dataclass
class Planted:
    """Encodes every image it was shown or drew to its true style; `decode` can be replaced.

    It stands in for `Model`: encode, decode, prior_latents, config, device, discriminator.
    """

    config: ModelConfig
    styles: dict[bytes, np.ndarray]
    discriminator: None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Posterior:
        """Look the images up."""
        known = [self.styles[image.tobytes()] for image in to_pixels(images)]
        mean = torch.from_numpy(np.stack(known))
        return Posterior(mean, torch.full_like(mean, -6.0))

    def prior_latents(
        self, normal: Tensor, labels: Tensor | None = None, temperature: float | None = None
    ) -> Tensor:
        """The prior is N(0, I)."""
        return normal

    def style(self, latents: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The styles and labels that are drawn."""
        return latents, labels

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Draw, and remember what was drawn."""
        assert labels is not None
        styles, drawn = self.style(latents.numpy(), labels.numpy())
        pixels = draw(styles, drawn)
        self.styles |= {image.tobytes(): style for image, style in zip(pixels, latents.numpy())}
        return to_images(pixels)


class Forgetful(Planted):
    """Draws every image of a class alike."""

    def style(self, latents: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros_like(latents), labels


class Deaf(Planted):
    """Draws the class that the thickness tells, whatever label is asked."""

    def style(self, latents: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return latents, np.digitize(latents[:, 0], [-0.43, 0.43])


class Slanting(Planted):
    """Halves the slant and thickens every stroke by half a pixel."""

    def style(self, latents: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return latents * [1, 0.5] + [1, 0], labels


@pytest.fixture(scope="session")
def letters() -> Dataset:
    """600 training and 300 test glyphs of three classes."""
    (_, train), (_, test) = glyphs(0, 600), glyphs(1, 300)
    return Dataset("letters", train, train.take(np.arange(0)), test, ("I", "L", "T"))


@pytest.fixture(scope="session")
def judge(letters: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """A small judge of the glyphs, trained in a second."""
    return Judge.trained_on(letters, tmp_path_factory.mktemp("judges"), settings=QUICK)


@pytest.fixture(scope="session")
def style(letters: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """A small encoder of style, trained in three seconds."""
    settings = replace(QUICK, rotation=0.0, scaling=0.0)
    folder = tmp_path_factory.mktemp("styles")
    return Judge.trained_on(letters, folder, settings=settings, task="style")


@pytest.fixture(scope="session")
def quick() -> TrainingSettings:
    """Settings of a classifier that trains in a second."""
    return QUICK


@pytest.fixture(scope="session")
def brief() -> TrainingSettings:
    """Settings of a classifier that only needs to have been trained."""
    return replace(QUICK, steps=20)


@pytest.fixture
def planted(letters: Dataset):
    """Return the function that makes a planted model of a kind."""
    kinds = {kind.__name__.lower(): kind for kind in (Planted, Forgetful, Deaf, Slanting)}

    def make(kind: str = "planted") -> Planted:
        config = resolve(letters, system="cvae", recipe="dense", latent_dim=2).model
        known = {}
        for seed, split in ((0, letters.train), (1, letters.test)):
            styles, _ = glyphs(seed, len(split))
            known |= {image.tobytes(): style for image, style in zip(split.pixels, styles)}
        return kinds[kind](config, known)

    return make


@pytest.fixture(scope="session")
def true_glyph():
    """Return the truth of a transfer: the source's style in the target's class."""
    styles, split = glyphs(1, 300)
    known = {image.tobytes(): style for image, style in zip(split.pixels, styles)}

    def truth(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return draw(np.stack([known[image.tobytes()] for image in sources]), targets)

    return truth

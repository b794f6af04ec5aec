"""Small systems on small images: what tests of the core need, in milliseconds."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vaegan.config import RunConfig
from vaegan.data import Dataset, Split
from vaegan.settings import resolve

BN = ["batchnorm", "relu"]
SMALL_LARSEN = {
    "encoder": [
        *("conv 4 k5 s2", *BN, "conv 6 k5 s2", *BN, "conv 8 k5 s2", *BN),
        *("flatten", "label", "dense 12", *BN),
    ],
    "decoder": [
        *("label", "grid 8 /8", *BN, "deconv 8 k5", *BN, "deconv 6 k5", *BN),
        *("deconv 4 k5", *BN, "image k5"),
    ],
    "discriminator": [
        *("conv 4 k5", "relu", "conv 6 k5 s2", *BN, "conv 8 k5 s2", *BN),
        *("conv 8 k5 s2", "features", *BN),
        *("flatten", "label", "dense 10", *BN, "logit"),
    ],
}


# Recipes are tuned; tests of the dense one pin what they rely on.
PINNED = {
    "objective": {
        "pixel_loss": "bce",
        "pixel_weight": 0.0,
        "kl_weight": 1.0,
        "similarity_loss": "mse",
        "similarity_normalised": True,
        "similarity_weight": 1.0,
        "adversarial_loss": "hinge",
        "adversarial_weight": 10.0,
        "real_weight": 1.0,
        "prior_weight": 0.5,
        "reconstruction_weight": 0.0,
        "transfer_weight": 0.5,
        "label_weight": 0.5,
        "cycle_weight": 0.0,
        "style_weight": 0.0,
        "code_style_weight": 0.0,
        "feature_matching_weight": 0.0,
        "augment": 0.0,
    },
    "optimiser": {
        "kind": "adam",
        "encoder_lr": 1e-3,
        "decoder_lr": 1e-3,
        "discriminator_lr": 1e-3,
        "betas": [0.0, 0.99],
        "muon": [],
        "warmup": 0,
        "decay": "cosine",
        "final_lr": 0.0,
        "ema_decay": 0.999,
    },
}


def pytest_configure(config: pytest.Config) -> None:
    """One thread a process: two workers share two cores, and bits depend on the thread count.

    And Ctrl-C interrupts, wherever the tests were started.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in a shell's background job: what a test starts would ignore the Ctrl-C it sends.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def make_dataset(
    size: int | tuple[int, int] = 8, classes: int = 3, count: int = 48, channels: int = 1
) -> Dataset:
    """Images of bright bars whose place tells the class, and noise."""
    height, width = (size, size) if isinstance(size, int) else size
    draw = np.random.default_rng(7)

    def split(n: int) -> Split:
        pixels = draw.integers(0, 90, (n, height, width, channels), np.uint8)
        labels = np.arange(n) % max(classes, 1)
        for image, label in zip(pixels, labels):
            image[(1 + 2 * label) % height, 1:-1] = draw.integers(150, 255)
        return Split(pixels, labels.astype(np.int64) if classes else None)

    names = tuple(f"class {k}" for k in range(classes))
    return Dataset("bars", split(count), split(6), split(24), names)


def make_config(
    system: str = "cvae-gan",
    recipe: str = "dense",
    *,
    size: int = 8,
    classes: int = 3,
    batch: int = 8,
    latent_dim: int | None = 4,
    seed: int = 0,
    **settings: Any,
) -> RunConfig:
    """A small run; ``objective__kl_weight=2`` sets `objective.kl_weight`.

    Recipe `larsen-small` is `larsen` with a few channels, for 16 x 16 images; `dense` has the
    losses and optimisers of `PINNED`.
    """
    if recipe == "dense":
        pinned = {f"{g}__{name}": v for g, part in PINNED.items() for name, v in part.items()}
        settings = pinned | settings
    changes = {name.replace("__", "."): json.dumps(value) for name, value in settings.items()}
    if recipe == "larsen-small":
        recipe, size = "larsen", 16
        networks = {f"model.architecture.{n}": json.dumps(v) for n, v in SMALL_LARSEN.items()}
        changes = networks | changes
    data = make_dataset(size, classes)
    return resolve(
        data,
        system=system,
        recipe=recipe,
        latent_dim=latent_dim,
        batch=batch,
        seed=seed,
        overrides=changes,
    )


def dataset_for(config: RunConfig) -> Dataset:
    """The data set that `make_config` resolved the config on."""
    model = config.model
    return make_dataset(model.image_size, max(model.num_classes, 3), channels=model.channels)


@pytest.fixture(scope="session")
def bars() -> Callable[..., Dataset]:
    """Return the function that makes a small data set."""
    return make_dataset


@pytest.fixture(scope="session")
def configure() -> Callable[..., RunConfig]:
    """Return the function that makes a small config."""
    return make_config


@pytest.fixture(scope="session")
def data_of() -> Callable[[RunConfig], Dataset]:
    """Return the function that gives the data set of a small config."""
    return dataset_for

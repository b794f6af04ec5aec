"""A scikit-learn style estimator over the same model and trainer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from vaegan.data import Dataset, Split
from vaegan.errors import DataError
from vaegan.images import to_pixels
from vaegan.inference import decode_pixels, encode_pixels
from vaegan.settings import resolve
from vaegan.training import trainer_for

__all__ = ["VaeganEstimator"]


class VaeganEstimator(TransformerMixin, BaseEstimator):
    """Images in, latents out: `fit(X, y)`, `transform`, `inverse_transform`, `sample`.

    Args:
        system: as on the command line; the ones in `c...` need `y`.
        recipe: `default`, `tutorial`, `dense`, ...
        latent_dim, batch: the recipe's when None.
        steps: training steps.
        seed: everything random is a function of it.

    X is uint8 (N, H, W) or (N, H, W, C) pixels, or float in [0, 1] of the same shape; y holds
    integers 0 .. K-1. `transform` and `inverse_transform` take the labels too where the system is
    conditional: ``estimator.transform(X, y)``; any other ignores y, as scikit-learn's do.
    """

    def __init__(
        self,
        system: str = "cvae-gan",
        recipe: str = "default",
        latent_dim: int | None = None,
        batch: int | None = None,
        steps: int = 1000,
        seed: int = 0,
    ):
        self.system = system
        self.recipe = recipe
        self.latent_dim = latent_dim
        self.batch = batch
        self.steps = steps
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> VaeganEstimator:
        """Train; the averaged model is `model_`, the settings `config_`."""
        pixels, labels = as_pixels(X), as_labels(y)
        if not len(pixels):
            raise DataError("X holds no image")
        if labels is not None and len(labels) != len(pixels):
            raise DataError(f"X has {len(pixels)} images but y has {len(labels)} labels")
        names = () if labels is None else tuple(map(str, range(int(labels.max()) + 1)))
        split = Split(pixels, labels)
        empty = split.take(np.arange(0))
        dataset = Dataset("given", split, empty, empty, names)
        self.config_ = resolve(
            dataset,
            system=self.system,
            recipe=self.recipe,
            latent_dim=self.latent_dim,
            batch=self.batch,
            seed=self.seed,
        )
        with torch.random.fork_rng():
            trainer = trainer_for(self.config_, dataset)
            for step in range(self.steps):
                trainer.step(step / self.steps)
        self.model_ = trainer.average.model
        return self

    def fit_transform(self, X: np.ndarray, y: np.ndarray | None = None, **_: Any) -> np.ndarray:
        """`fit(X, y)`, then `transform(X, y)`: a conditional system needs its labels twice."""
        return self.fit(X, y).transform(X, y)

    def transform(self, X: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Posterior means (N, latent_dim) float32."""
        check_is_fitted(self)
        return encode_pixels(self.model_, as_pixels(X), as_labels(y)).mode().numpy()

    def inverse_transform(self, Z: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Decode latents (N, latent_dim) to uint8 pixels (N, H, W, C)."""
        check_is_fitted(self)
        codes = torch.as_tensor(np.asarray(Z, np.float32))
        return decode_pixels(self.model_, codes, as_labels(y))

    def sample(self, n: int, label: int | None = None, seed: int = 0) -> np.ndarray:
        """N draws from the prior as uint8 pixels (N, H, W, C)."""
        check_is_fitted(self)
        return to_pixels(self.model_.sample(n, label, seed=seed))

    def __sklearn_tags__(self) -> Any:
        """X has three or four dimensions."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags


def as_pixels(X: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) from uint8 or float in [0, 1], with or without the channel."""
    array = np.asarray(X)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4:
        raise DataError(f"X has shape {np.shape(X)}; give images as (N, H, W) or (N, H, W, C)")
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all() or array.min(initial=0) < 0 or array.max(initial=0) > 1:
        raise DataError("X holds values outside [0, 1]: give uint8 pixels, or floats in [0, 1]")
    return np.floor(array * 255 + 0.5).astype(np.uint8)


def as_labels(y: np.ndarray | None) -> np.ndarray | None:
    """Labels (N,) as int64, or None; DataError unless they are whole numbers."""
    if y is None:
        return None
    given = np.asarray(y)
    if given.dtype.kind == "O" and all(isinstance(one, (int, np.integer)) for one in given.flat):
        given = given.astype(np.int64)
    whole = given.dtype.kind in "biu" or (
        given.dtype.kind == "f" and bool(np.isfinite(given).all() and (given % 1 == 0).all())
    )
    if given.ndim != 1 or not whole:
        raise DataError(
            f"y holds {given.dtype} of shape {given.shape}; give labels 0 .. K-1 of shape (N,) "
            "(scikit-learn's LabelEncoder makes them of names)"
        )
    return given.astype(np.int64)

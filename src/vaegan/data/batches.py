"""Batches as a function of (seed, index): no sampler state, so resuming loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from vaegan.randomness import key

if TYPE_CHECKING:
    import torch

    from vaegan.data.dataset import Split

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True)
class Batch:
    """images (B,C,H,W) float in [0,1] and labels (B,) int64, or None."""

    images: torch.Tensor
    labels: torch.Tensor | None


class Batches:
    """Batch number `index` of a split in a seeded endless shuffle.

    Position p of the stream is image p mod N of the permutation of epoch p div N; batches run
    across the seam, so every image is seen equally often whatever the batch size. Each rank takes
    its rows of the same global batch.
    """

    def __init__(
        self,
        split: Split,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
        rows: slice = slice(None),
    ):
        self.split = split
        self.batch = batch
        self.seed = seed
        self.device = device
        self.rows = rows
        self._permutation = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        # Sort raw words: unlike NumPy's shuffles, a raw stream never changes between versions.
        words = np.random.PCG64(key(self.seed, "shuffle", epoch)).random_raw(len(self.split))
        return np.argsort(words, kind="stable")

    def indices(self, index: int) -> np.ndarray:
        """Which images batch number `index` holds, (batch,) int64."""
        size = len(self.split)
        positions = np.arange(index * self.batch, (index + 1) * self.batch)
        epochs = positions // size
        chosen = np.empty(self.batch, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            chosen[here] = self._permutation(int(epoch))[positions[here] % size]
        return chosen

    def __call__(self, index: int) -> Batch:
        """Images (B,C,H,W) float in [0,1] and labels (B,) on the device; this rank's rows."""
        import torch

        from vaegan.images import to_images

        chosen = self.indices(index)[self.rows]
        images = to_images(self.split.pixels[chosen], self.device)
        labels = None
        if self.split.labels is not None:
            labels = torch.from_numpy(self.split.labels[chosen]).to(self.device)
        return Batch(images, labels)

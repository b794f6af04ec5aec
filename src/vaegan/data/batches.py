"""Batches as a function of (seed, index): no sampler state, so resuming loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from vaegan.randomness import key

if TYPE_CHECKING:
    import torch

    from vaegan.data.dataset import Split

__all__ = ["Ahead", "Batch", "Batches"]


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

        part = self.gathered(index)
        images = to_images(part.pixels, self.device)
        labels = None
        if part.labels is not None:
            labels = torch.from_numpy(part.labels).to(self.device)
        return Batch(images, labels)

    def gathered(self, index: int) -> Split:
        """Read the rows of a batch that are this rank's into memory."""
        return self.split.take(self.indices(index)[self.rows])


class Ahead(Batches):
    """The same batches; while one is used, a thread gathers the next.

    A batch is a function of its index, so that this changes when it is read and nothing else. The
    thread lives for one batch: there is none to end with the run. What goes wrong in it is raised
    where that batch is asked for.
    """

    next: tuple[int, Future[Split]] | None = None

    def gathered(self, index: int) -> Split:
        """Take the rows of a batch that are at hand, or read them now; begin to read the next."""
        ahead, self.next = self.next, None
        if ahead is None or ahead[0] != index:
            ahead = index, _begun(super().gathered, index)
        part = ahead[1].result()
        self.next = index + 1, _begun(super().gathered, index + 1)
        return part


def _begun(gather: Callable[[int], Split], index: int) -> Future[Split]:
    """The result to come of a call that runs in a thread of its own."""
    future: Future[Split] = Future()

    def run() -> None:
        try:
            future.set_result(gather(index))
        except BaseException as error:  # raised again by whoever asks for the result
            future.set_exception(error)

    Thread(target=run, name=f"batch {index}").start()
    return future

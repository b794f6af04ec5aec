"""What a data set is prepared from: images that are read a chunk at a time, wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vaegan.data.dataset import Dataset, Split
from vaegan.data.image_folder import FileChunk, ImageFolder
from vaegan.images import resized

__all__ = ["Chunk", "DatasetSource", "FolderSource", "Source"]


class Chunk(Protocol):
    """Some images of a source."""

    def stamp(self) -> str:
        """The state of what they are read from: it changes when that does."""

    def read(self) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Pixels uint8 (N, H, W, C); the places of those that cannot be used, each with why."""


class Source(Protocol):
    """Where images are prepared from.

    `origin` tells which images are there, `digest` that and what is to be made of them, `in_files`
    how they lie.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    origin: str
    digest: str
    in_files: bool

    def labels(self, purpose: str) -> np.ndarray | None:
        """The labels of a split, int64 (N,), None if there are none."""

    def count(self, purpose: str) -> int:
        """The number of images of a split."""

    def chunk(self, purpose: str, rows: range) -> Chunk:
        """Some images of a split."""


@dataclass(frozen=True)
class ArrayChunk:
    """Some images of a data set, at a size."""

    split: Split
    rows: range
    size: int | None

    def stamp(self) -> str:
        """The fingerprint of the data set, which is part of the plan, says it all."""
        return ""

    def read(self) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Pixels uint8 (N, H, W, C); all can be used."""
        pixels = self.split.take(np.arange(self.rows.start, self.rows.stop)).pixels
        return (pixels if self.size is None else resized(pixels, self.size)), []


class DatasetSource:
    """A data set that can be loaded, at its own size or another."""

    in_files = False

    def __init__(self, dataset: Dataset, size: int | None = None):
        self.dataset = dataset
        self.size = None if dataset.image_size == (size, size) else size
        self.name, self.class_names = dataset.name, dataset.class_names
        self.image_size = (self.size, self.size) if self.size else dataset.image_size
        self.channels, self.origin = dataset.channels, dataset.fingerprint
        self.digest = self.origin

    def labels(self, purpose: str) -> np.ndarray | None:
        """The labels of a split."""
        return self._split(purpose).labels

    def count(self, purpose: str) -> int:
        """The number of images of a split."""
        return len(self._split(purpose))

    def chunk(self, purpose: str, rows: range) -> ArrayChunk:
        """Some images of a split."""
        return ArrayChunk(self._split(purpose), rows, self.size)

    def _split(self, purpose: str) -> Split:
        split: Split = getattr(self.dataset, purpose)
        return split


class FolderSource:
    """A folder of image files, brought to one size, antialiased and padded, grey or in colour."""

    in_files = True

    def __init__(self, files: ImageFolder, image_size: tuple[int, int], channels: int, digest: str):
        self.files, self.image_size, self.channels = files, image_size, channels
        self.name = files.root.resolve().name.encode("utf-8", "replace").decode() or "images"
        self.class_names, self.origin, self.digest = files.class_names, files.digest, digest

    def labels(self, purpose: str) -> np.ndarray | None:
        """The labels of a split."""
        labels = self.files.labels
        return None if labels is None else labels[self.files.rows[purpose]].astype(np.int64)

    def count(self, purpose: str) -> int:
        """The number of images of a split."""
        return len(self.files.rows[purpose])

    def chunk(self, purpose: str, rows: range) -> FileChunk:
        """Some images of a split."""
        chosen = self.files.rows[purpose][rows.start : rows.stop]
        return FileChunk(self.files.paths(chosen), self.image_size, self.channels)

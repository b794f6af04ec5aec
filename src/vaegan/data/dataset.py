"""Images, labelled or not: uint8 until the batch, three fixed splits, a fingerprint.

Pixels lie in memory, or in a file that is memory-mapped (`vaegan.data.mapped`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vaegan.data.mapped import gathered, is_mapped, release
from vaegan.errors import DataError

__all__ = ["PURPOSES", "Dataset", "Split", "carve_validation", "carved", "fingerprint_of"]

PURPOSES = ("train", "validation", "test")
PIECE = 16 << 20  # bytes that are hashed at a time


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one purpose, in a fixed order.

    Attributes:
        pixels: uint8 (N, H, W, C), C = 1 or 3, N may be 0.
        labels: int64 (N,), each >= 0, or None for unlabelled images.

    Raises:
        DataError: an array has another shape or dtype, or a label is negative.
    """

    pixels: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape[1:]:
            raise DataError(
                f"pixels are {dtype} of shape {shape}: give uint8 (N, H, W, C) with C = 1 or 3"
            )
        if self.labels is None:
            return
        if self.labels.dtype != np.int64 or self.labels.shape != shape[:1]:
            raise DataError(
                f"labels are {self.labels.dtype} of shape {self.labels.shape}: "
                f"give int64 of shape ({shape[0]},), one for each image, or None"
            )
        if self.labels.size and self.labels.min() < 0:
            raise DataError(f"label {self.labels.min()} is negative: number the classes from 0")

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: np.ndarray) -> Split:
        """Return the images at `indices` (int (M,) or bool (N,)), copied into memory."""
        labels = None if self.labels is None else self.labels[indices]
        return Split(gathered(self.pixels, indices), labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named set of images: train to fit, validation to choose, test to report.

    Attributes:
        name: short name for titles and file names.
        train: at least one image.
        validation: may be empty.
        test: may be empty.
        class_names: one name for each class, empty when the images are unlabelled.
        fingerprint: sha256 (hex) of all pixels and labels; computed when left empty. The names do
            not enter, so that the same images under another name are the same data.

    Raises:
        DataError: splits disagree in image size, channels or labelling, or a label has no class.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...] = ()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not len(self.train):
            raise DataError(f"data set {self.name!r} has no training image")
        if len(set(self.class_names)) < len(self.class_names):
            raise DataError(f"data set {self.name!r} repeats a class name: {self.class_names}")
        for purpose in PURPOSES:
            split: Split = getattr(self, purpose)
            shape, wanted = split.pixels.shape[1:], self.train.pixels.shape[1:]
            if shape != wanted:
                raise DataError(
                    f"{purpose} images of {self.name!r} are (H, W, C) = {shape}, the training "
                    f"images {wanted}: make them one size"
                )
            if (split.labels is None) == bool(self.class_names):
                raise DataError(
                    f"{purpose} images of {self.name!r} are {'un' * (split.labels is None)}labelled"
                    f" but {len(self.class_names)} classes are named: give both or neither"
                )
            top = -1 if split.labels is None else int(split.labels.max(initial=-1))
            if top >= len(self.class_names) > 0:
                raise DataError(
                    f"label {top} of the {purpose} images of {self.name!r} is out of range: "
                    f"{len(self.class_names)} classes are named (0..{len(self.class_names) - 1})"
                )
        if not self.fingerprint:
            digest = fingerprint_of(self.train, self.validation, self.test)
            object.__setattr__(self, "fingerprint", digest)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.pixels.shape[1], self.train.pixels.shape[2]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.train.pixels.shape[3]

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 when the images are unlabelled."""
        return len(self.class_names)

    def resized(self, size: int) -> Dataset:
        """The same images at `size` x `size`: antialiased, aspect kept, padded with black.

        Raises DataError when the size is not within 8 to 1024, or the images lie in a file: these
        may be too many for memory.
        """
        from vaegan.images import resized

        if is_mapped(self.train.pixels):
            height, width = self.image_size
            raise DataError(
                f"data set {self.name!r} is prepared at {height} x {width} pixels, not "
                f"{size} x {size}: prepare it again with `vaegan data prepare --image-size {size}`"
            )
        if not 8 <= size <= 1024:
            raise DataError(f"image size {size} is out of range: choose 8 to 1024 pixels")
        train, validation, test = (
            Split(resized(split.pixels, size), split.labels)
            for split in (self.train, self.validation, self.test)
        )
        return Dataset(self.name, train, validation, test, self.class_names)


def fingerprint_of(*splits: Split, progress: Callable[[float], None] | None = None) -> str:
    """Return the sha256 (hex) over the pixels and labels of the splits, their shapes included.

    Of pixels in a file a piece at a time is in memory. progress(share done): called now and then.
    """
    digest = hashlib.sha256()
    images, done = sum(len(split) for split in splits), 0
    for split in splits:
        labels = None if split.labels is None else split.labels.astype("<i8", copy=False)
        for array in (split.pixels, labels):
            digest.update(b"none" if array is None else repr(array.shape).encode())
            if array is None or not array.size:
                continue
            rows = max(1, PIECE // array[0].nbytes)
            for start in range(0, len(array), rows):
                digest.update(np.ascontiguousarray(array[start : start + rows]).data)
                release(array)
                if progress is not None and array is split.pixels:
                    progress((done + min(start + rows, len(array))) / images)
        done += len(split)
    return digest.hexdigest()


def carve_validation(split: Split, size: int | float, seed: int) -> tuple[Split, Split]:
    """Divide a split into (rest, carved), both in the original order.

    Each class gives in proportion to its share (largest remainder) and always keeps an image in
    the rest. Which images go depends on `seed`, the labels and nothing else: the raw stream of a
    bit generator is the same in every version of NumPy, unlike its shuffles.

    Args:
        split: images to divide.
        size: number of images to carve (int), or their share of all (float in [0, 1)).
        seed: any int >= 0.

    Raises:
        DataError: `size` is out of range, or leaves a class without an image in the rest.
    """
    labels = np.zeros(len(split), np.int64) if split.labels is None else split.labels
    chosen = carved(labels, size, seed)
    return split.take(~chosen), split.take(chosen)


def carved(labels: np.ndarray, size: int | float, seed: int) -> np.ndarray:
    """Which images `carve_validation` carves: bool (N,), of the labels (N,) of all."""
    classes, strata, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = round(size * len(labels)) if isinstance(size, float) else size
    if not 0 <= wanted <= len(labels) - len(classes):
        raise DataError(
            f"cannot carve {wanted} of {len(labels)} images in {len(classes)} classes: "
            f"ask for at most {len(labels) - len(classes)}, so that every class keeps one"
        )

    # Share `wanted` among the classes, one by one where the proportions leave a rest.
    quota = wanted * counts / max(len(labels), 1)
    given = np.minimum(quota.astype(np.int64), counts - 1)
    while given.sum() < wanted:
        given[np.argmax(np.where(given < counts - 1, quota - given, -np.inf))] += 1

    # Rank the images of each class by a random key; the first `given` of a class are carved.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    order = np.lexsort((keys, strata))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(labels), bool)
    chosen[order] = rank < np.repeat(given, counts)
    return chosen

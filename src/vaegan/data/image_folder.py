"""A folder of image files: its classes, its splits, and its files a chunk at a time.

    FOLDER/CLASS/*.png                             a sub-folder a class, which it names
    FOLDER/*.png                                   unlabelled images
    FOLDER/train/..., test/..., validation/...     one of these in each: the splits are given

Splits that are not given are carved from the training images, in proportion from each class and
always the same: one image in seven to test, one in twelve of the rest to validate (as MNIST has).
Within a split the files are in an order of their own, always the same, in which classes mix: the
first hundred images show them all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaegan.data.dataset import PURPOSES, carved
from vaegan.data.idx import SPLIT_SEED, VALIDATION_SHARE
from vaegan.data.workers import finished
from vaegan.errors import DataError
from vaegan.images import SUFFIXES, read_image_file, survey

__all__ = ["FileChunk", "ImageFolder", "is_image_folder", "list_images", "surveyed"]

TEST_SHARE = 1 / 7  # MNIST: 10,000 of 70,000
SURVEYED = 256  # files at a time


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The files of a folder of images, by class and name.

    Attributes:
        root: the folder.
        folders: its sub-folders with images, one a class of a split.
        owner: int32 (N,), which of `folders` each file lies in.
        names: bytes (N,), the name of each file there.
        labels: int64 (N,), or None for unlabelled images.
        rows: which files are in each split, int64 each, in the split's order.
        class_names: one name a class, sorted; empty when unlabelled.
        ignored: number of files that by their names are no images.
    """

    root: Path
    folders: tuple[str, ...]
    owner: np.ndarray = field(repr=False)
    names: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    rows: dict[str, np.ndarray] = field(repr=False)
    class_names: tuple[str, ...] = ()
    ignored: int = 0

    @property
    def digest(self) -> str:
        """The sha256 (hex) of what is listed: other files, names or splits give another."""
        digest = hashlib.sha256(json.dumps([self.folders, self.class_names]).encode())
        for array in (self.owner, self.names, *(self.rows[purpose] for purpose in PURPOSES)):
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def paths(self, rows: np.ndarray) -> tuple[str, ...]:
        """The paths of some files, int (M,)."""
        return tuple(
            str(self.root / self.folders[self.owner[row]] / os.fsdecode(self.names[row]))
            for row in rows
        )


@dataclass(frozen=True)
class FileChunk:
    """Some image files, and the shape to bring them to."""

    paths: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int

    def stamp(self) -> str:
        """The sha256 (hex) of the sizes and times of the files: it changes when one does."""
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                state = os.stat(path)  # noqa: PTH116
                digest.update(f"{state.st_size} {state.st_mtime_ns};".encode())
            except OSError:
                digest.update(b"gone;")
        return digest.hexdigest()

    def read(self) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Pixels uint8 (N, H, W, C); the places of files that cannot be used, each with why."""
        pixels = np.zeros((len(self.paths), *self.image_size, self.channels), np.uint8)
        bad: list[tuple[int, str]] = []
        for place, path in enumerate(self.paths):
            try:
                pixels[place] = read_image_file(path, self.image_size, self.channels, resize=True)
            except DataError as error:
                bad.append((place, str(error)))
        return pixels, bad


# ── the list ─────────────────────────────────────────────────────────────────────────────────────


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds image files, or folders that may."""
    folders, names, _ = _entries(folder)
    return bool(folders) or len(names) > 0


def list_images(root: Path) -> ImageFolder:
    """List a folder of images, see above; no file is opened.

    Raises:
        DataError: the folder is not laid out like that, or a class has no image.
    """
    folders, names, _ = _entries(root)
    given = ["."]
    if "train" in folders:
        strangers = [name for name in folders if name not in PURPOSES]
        if strangers or len(names):
            other = f"the folder {strangers[0]!r}" if strangers else "images"
            raise DataError(
                f"{str(root)!r} holds train and {other} beside it: splits are the folders train, "
                "test and validation, and nothing else"
            )
        given = [purpose for purpose in PURPOSES if purpose in folders]
    found = [(part, *one) for part in given for one in _classes(root, part)]
    classes = sorted({name for part, name, _, _, _ in found if part == given[0] and name})
    for part, name, _, _, _ in found:
        if bool(name) != bool(classes) or (name and name not in classes):
            raise DataError(
                f"{str(root / part)!r} has {'the class ' + repr(name) if name else 'no classes'}, "
                f"{str(root / given[0])!r} has {', '.join(classes[:4]) or 'none'}"
                f"{', ...' if len(classes) > 4 else ''}: give all splits the same classes"
            )
    counts = [len(names) for _, _, _, names, _ in found]
    owner = np.repeat(np.arange(len(found), dtype=np.int32), counts)
    labels = None
    if classes:
        labels = np.repeat([classes.index(name or "") for _, name, _, _, _ in found], counts)
    rows = {
        "train" if part == "." else part: np.flatnonzero(
            np.repeat([one[0] == part for one in found], counts)
        )
        for part in given
    }
    for purpose, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if purpose not in rows:
            own = rows["train"]
            strata = np.zeros(len(own), np.int64) if labels is None else labels[own]
            size = min(round(len(own) * share), len(own) - len(np.unique(strata)))
            chosen = carved(strata, size, SPLIT_SEED)
            rows["train"], rows[purpose] = own[~chosen], own[chosen]
    for purpose, own in rows.items():
        words = np.random.PCG64(SPLIT_SEED).random_raw(len(own))
        rows[purpose] = own[np.argsort(words, kind="stable")]
    return ImageFolder(
        root,
        tuple(where for _, _, where, _, _ in found),
        owner,
        np.concatenate([names for _, _, _, names, _ in found]),
        labels,
        rows,
        tuple(classes),
        sum(ignored for _, _, _, _, ignored in found),
    )


def _classes(root: Path, part: str) -> Iterator[tuple[str | None, str, np.ndarray, int]]:
    """Class or None, folder, names of its images and number of other files, for each class."""
    folders, names, ignored = _entries(root / part)
    place = repr(str(root / part))
    if folders and len(names):
        raise DataError(
            f"{place} holds images beside folders: put each image into the folder of its class"
        )
    if not folders:
        if not len(names):
            raise DataError(f"{place} holds no image ({', '.join(SUFFIXES)}) and no folder of any")
        yield None, part, names, ignored
    for name in folders:
        where = str(Path(part) / name)
        within, names, ignored = _entries(root / where)
        if within or not len(names):
            what = f"the folder {within[0]!r}" if within else "no image"
            raise DataError(
                f"{str(root / where)!r} holds {what}: classes are folders of image files "
                f"({', '.join(SUFFIXES)}) and nothing deeper"
            )
        yield name, where, names, ignored


def _entries(folder: Path) -> tuple[list[str], np.ndarray, int]:
    """Sub-folders, names of image files, bytes (N,), both sorted, and the number of other files.

    What is hidden does not count.
    """
    folders: list[str] = []
    images: list[bytes] = []
    ignored = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(_readable(entry.name))
                elif entry.name.lower().endswith(SUFFIXES):
                    images.append(os.fsencode(entry.name))
                else:
                    ignored += 1
    except OSError as error:
        raise DataError(f"cannot list {str(folder)!r} ({error.strerror}): check it") from None
    return sorted(folders), np.array(sorted(images), bytes), ignored


def _readable(name: str) -> str:
    """The name of a folder, which may become that of a class; DataError if it is no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the folder {name!r} has a name that is not UTF-8: rename it") from None
    return name


# ── what the files have in common ────────────────────────────────────────────────────────────────


def surveyed(
    files: ImageFolder,
    image_size: tuple[int, int] | None,
    channels: int | None,
    workers: int,
    progress: Callable[[str, float], None],
) -> tuple[tuple[int, int], int]:
    """Size and channels to prepare the images at: those given, else those of the files.

    Every file is looked at where the size is not given, and where the channels are not, files
    until one has colour. Raises DataError when the files differ in size.
    """
    sizes: set[tuple[int, int]] = set()
    colour, count = False, len(files.names)

    def calls() -> Iterator[tuple[tuple[str, ...], bool]]:
        for start in range(0, count, SURVEYED):
            asked = channels is None and not colour
            if asked or image_size is None:
                yield files.paths(np.arange(start, min(start + SURVEYED, count))), asked

    with closing(finished(_survey, calls(), workers, processes=count > SURVEYED)) as answers:
        for number, (found, coloured) in enumerate(answers, 1):
            sizes |= found
            colour |= coloured
            progress(f"looking at {count:,} files", min(1.0, number * SURVEYED / count))
            if image_size is None and len(sizes) > 1:
                first, second = sorted(sizes)[:2]
                raise DataError(
                    f"the images in {str(files.root)!r} have several sizes ({first[0]} x "
                    f"{first[1]}, {second[0]} x {second[1]}, ...): give --image-size"
                )
    if image_size is None:
        if not sizes or not all(8 <= side <= 1024 for side in min(sizes)):
            shown = " x ".join(map(str, min(sizes))) if sizes else "unreadable"
            raise DataError(f"the images in {str(files.root)!r} are {shown}: give --image-size")
        image_size = min(sizes)
    return image_size, channels or (3 if colour else 1)


def _survey(paths: tuple[str, ...], colour: bool) -> tuple[set[tuple[int, int]], bool]:
    """The sizes of files, and whether one has colour if that is asked; bad files say nothing."""
    sizes: set[tuple[int, int]] = set()
    found = False
    for path in paths:
        try:
            size, has = survey(path, colour and not found)
        except DataError:
            continue
        sizes.add(size)
        found |= bool(has)
    return sizes, found

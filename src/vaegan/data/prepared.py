"""A prepared data set: a folder that opens in an instant and is read as it is used.

dataset.json         what is in it; written last, so that its presence says that all is whole
PURPOSE-pixels.npy   uint8 (N, H, W, C), for each of train, validation and test
PURPOSE-labels.npy   int64 (N,); absent when the images are unlabelled
preparation.jsonl    while it is prepared: which chunks are there (`vaegan.data.preparation`)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vaegan.data.dataset import PURPOSES, Dataset, Split
from vaegan.data.mapped import open_array
from vaegan.errors import DataError
from vaegan.files import write_json

__all__ = [
    "DESCRIPTION",
    "FORMAT_VERSION",
    "JOURNAL",
    "Description",
    "is_prepared",
    "labels_path",
    "load_prepared",
    "pixels_path",
]

DESCRIPTION, JOURNAL = "dataset.json", "preparation.jsonl"
FORMAT_VERSION: Final = 1

Side = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Description(BaseModel):
    """What dataset.json says: the fields of a `Dataset`, and what tells its `source`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = FORMAT_VERSION
    name: Annotated[str, Field(pattern=r"^[^/\x00]+$")]
    class_names: tuple[str, ...]
    image_size: tuple[Side, Side]
    channels: Annotated[int, Field(ge=1, le=3)]
    splits: dict[str, Count]
    source: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    def write(self, folder: Path) -> None:
        """Write dataset.json, whole or not at all: from now on the folder is a data set."""
        write_json(folder / DESCRIPTION, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read dataset.json; DataError when it is not whole, or of another version."""
        path = folder / DESCRIPTION
        try:
            tree = json.loads(path.read_text("utf-8"))
            version = tree["format_version"]
            if version != FORMAT_VERSION:
                raise DataError(
                    f"{path} has format version {version!r}; this program reads version "
                    f"{FORMAT_VERSION}: prepare it anew, in another folder"
                )
            return cls.model_validate(tree)
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
        raise DataError(f"{path} is damaged ({reason}): prepare it anew, in another folder")


def pixels_path(folder: Path, purpose: str) -> Path:
    """Where the pixels of a split lie."""
    return folder / f"{purpose}-pixels.npy"


def labels_path(folder: Path, purpose: str) -> Path:
    """Where the labels of a split lie."""
    return folder / f"{purpose}-labels.npy"


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a prepared data set, finished or not."""
    return (folder / DESCRIPTION).is_file() or (folder / JOURNAL).is_file()


def load_prepared(folder: Path) -> Dataset:
    """Open a prepared data set: labels in memory, pixels memory-mapped, none of them read.

    Raises:
        DataError: the preparation did not come to its end, is of another version, or a file of it
            is missing, cut short or of another shape.
    """
    if not (folder / DESCRIPTION).is_file():
        raise DataError(
            f"{str(folder)!r} is half prepared: give its `vaegan data prepare` once more, which "
            "goes on where it was"
        )
    about = Description.read(folder)
    splits = []
    for purpose in PURPOSES:
        count = about.splits.get(purpose, 0)
        shape: tuple[int, ...] = (count, *about.image_size, about.channels)
        files = {pixels_path(folder, purpose): (shape, "|u1")}
        if about.class_names:
            files[labels_path(folder, purpose)] = ((count,), "<i8")
        arrays: list[np.ndarray] = []
        for path, (shape, dtype) in files.items():
            try:
                arrays.append(open_array(path, shape, dtype))
            except DataError as error:
                raise DataError(f"{path} {error}: prepare it anew, in another folder") from None
        labels = arrays[1].astype(np.int64) if about.class_names else None
        splits.append(Split(arrays[0], labels))
    train, validation, test = splits
    return Dataset(about.name, train, validation, test, about.class_names, about.fingerprint)

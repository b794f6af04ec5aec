"""`vaegan data ...`: data sets on disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from vaegan.errors import ConfigError

if TYPE_CHECKING:
    from vaegan.cli.stages import Stages
    from vaegan.data import Dataset
    from vaegan.data.sources import Source

NAMED = 3  # so many files that were left out are named


def prepare(
    source: str,
    /,
    *,
    out: Path,
    image_size: Annotated[
        int | None, Parameter(validator=validators.Number(gte=8, lte=1024))
    ] = None,
    channels: Literal[1, 3] | None = None,
    workers: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Read images once, in parallel, into a folder that `vaegan train --data` opens in an instant.

    Such a folder is read as it is used: it may be larger than memory. Ctrl-C stops; the same
    command goes on where it was.

    A folder of images has a sub-folder for each class, or none for unlabelled images; or the
    folders train, test and validation, each with these. Splits that are not given are carved from
    the training images, always the same: a seventh to test, a twelfth of the rest to validate.

    Parameters
    ----------
    source
        A folder of images; or any data set that `train --data` takes, such as `mnist`, a folder of
        IDX files, or one that was prepared before.
    out
        The folder to make.
    image_size
        Bring all images to this many pixels a side: antialiased, aspect kept, padded with black.
        Left out, they keep their size, which must be the same.
    channels
        Of image files: 1 for grey, 3 for colour; 3 when left out if any image has colour.
    workers
        Processes that read image files; one for each processor when left out.
    skip_bad
        Leave out files that cannot be read, and count them; without it the first is an error.
    """
    from vaegan.cli.stages import Stages
    from vaegan.data.preparation import Preparation, claim
    from vaegan.data.prepared import Description
    from vaegan.data.workers import processors
    from vaegan.files import locked

    there = claim(out)
    if there is not None:
        size = (image_size, image_size) if image_size else there.image_size
        if (size, channels or there.channels) != (there.image_size, there.channels):
            raise ConfigError(f"{out} holds {described(there)}: choose another --out")
        if Description.read(out).source != origin_of(source):
            raise ConfigError(
                f"{out} holds {described(there)}, made of other images than {source} has now: "
                "choose another --out"
            )
        print(f"nothing to do: {out} holds {described(there)}", file=sys.stderr)
        print(out)
        return 0
    workers = workers or processors()
    try:
        with Stages() as stages:
            found = opened(source, out, image_size, channels, workers, stages)
            with locked(out, "prepared", "--out"):
                if claim(out) is not None:
                    raise ConfigError(f"{out} was prepared meanwhile: choose another --out")
                work = Preparation(found, out, skip_bad=skip_bad)
                if work.anew:
                    print(f"{source} or its settings changed: starting anew", file=sys.stderr)
                if work.found:
                    print(
                        f"going on: {work.found:,} of {work.images:,} images are there",
                        file=sys.stderr,
                    )
                left_out = work.run(workers, stages)
    except KeyboardInterrupt:
        print("stopped; nothing is lost: the same command goes on from here", file=sys.stderr)
        return 130
    made = claim(out)
    assert made is not None
    print(described(made), file=sys.stderr)
    if left_out:
        more = f"; and {len(left_out) - NAMED:,} more" if len(left_out) > NAMED else ""
        print(f"left out {len(left_out):,}: {'; '.join(left_out[:NAMED])}{more}", file=sys.stderr)
    print(out)
    return 0


def opened(
    source: str,
    out: Path,
    image_size: int | None,
    channels: int | None,
    workers: int,
    stages: Stages,
) -> Source:
    """What is to be prepared: image files, or a data set that has a name or a loader."""
    from vaegan.data import dataset_names, load_dataset
    from vaegan.data.image_folder import list_images, surveyed
    from vaegan.data.preparation import planned_before
    from vaegan.data.sources import DatasetSource, FolderSource

    folder = Path(source).expanduser()
    if source not in dataset_names() and is_of_images(folder):
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"--out {out} lies within {source}: choose a folder outside of it")
        files = list_images(folder)
        if files.ignored:
            print(
                f"not images, by their names: {files.ignored:,} files in {source}", file=sys.stderr
            )
        size = (image_size, image_size) if image_size else None
        digest = f"{files.digest} {image_size} {channels}"
        shape = planned_before(out, digest) or surveyed(files, size, channels, workers, stages)
        return FolderSource(files, *shape, digest)
    dataset = load_dataset(source)
    if channels not in (None, dataset.channels):
        raise ConfigError(
            f"--channels {channels}: {source} has {dataset.channels}; it is for image files only"
        )
    return DatasetSource(dataset, image_size)


def origin_of(source: str) -> str:
    """What tells which images a source has: the list of its files, or a fingerprint."""
    from vaegan.data import dataset_names, load_dataset
    from vaegan.data.image_folder import list_images

    folder = Path(source).expanduser()
    if source not in dataset_names() and is_of_images(folder):
        return list_images(folder).digest
    return load_dataset(source).fingerprint


def is_of_images(folder: Path) -> bool:
    """Whether a folder holds image files and no data set."""
    from vaegan.data.image_folder import is_image_folder
    from vaegan.data.prepared import is_prepared

    return (
        folder.is_dir()
        and not is_prepared(folder)
        and not any(folder.glob("*-ubyte*"))
        and is_image_folder(folder)
    )


def described(dataset: Dataset) -> str:
    """A data set in a line."""
    height, width = dataset.image_size
    classes = f"{dataset.num_classes} classes" if dataset.num_classes else "unlabelled"
    return (
        f"{dataset.name}: {len(dataset.train):,} training, {len(dataset.validation):,} validation, "
        f"{len(dataset.test):,} test images of {height}x{width}x{dataset.channels}, {classes}"
    )

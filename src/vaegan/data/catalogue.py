"""Find a data set by name or path.

    digits         1,797 real digits that come with scikit-learn, enlarged to 28 x 28; no network
    mnist          60,000 + 10,000 handwritten digits, 28 x 28
    fashion-mnist  60,000 + 10,000 pieces of clothing, 28 x 28
    PATH           a folder with four IDX files, {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]
                   (two, if the images are unlabelled), or one that `vaegan data prepare` wrote

The published sets are looked for in the folder named by the environment variable VAEGAN_DATA (in
its subfolder `mnist` or `fashion-mnist`, or directly), in /usr/share/datasets, in the user's cache,
and at last downloaded into that cache. What is found is compared with the digest of the published
content, so that a result under the name `mnist` is a result on MNIST.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaegan.data.dataset import Dataset
from vaegan.data.digits import load_digits
from vaegan.data.download import cache_folder, download
from vaegan.data.idx import ROLES, dataset_of_idx, idx_digest, read_idx_folder
from vaegan.data.prepared import is_prepared, load_prepared
from vaegan.data.published import FASHION_MNIST, MNIST, Published
from vaegan.errors import DataError

__all__ = ["dataset_names", "load_dataset"]

SYSTEM_FOLDER = Path("/usr/share/datasets")
PUBLISHED = (MNIST, FASHION_MNIST)


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
    return tuple(_LOADERS)


def load_dataset(name_or_path: str | os.PathLike[str]) -> Dataset:
    """Load a data set by name or from a folder; a name wins over a folder of that name.

    Raises:
        DataError: unknown name, nothing usable at the path, damaged files, or no network.
    """
    name = os.fspath(name_or_path)
    if name in _LOADERS:
        return _LOADERS[name]()
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.exists()
    except (OSError, RuntimeError):  # a name too long for a path, an unknown ~user
        is_folder = is_file = False
    if name and is_folder:
        return _load_folder(path)
    if name and is_file:
        raise DataError(f"{name!r} is a file: give the folder that holds the data")
    near = difflib.get_close_matches(name.lower(), _LOADERS, n=1)
    hint = f"did you mean {near[0]}?" if near else "give one of these or the path of a folder"
    raise DataError(f"no data set or folder {name!r} (known: {', '.join(_LOADERS)}): {hint}")


def _load_folder(folder: Path) -> Dataset:
    """Load what was prepared, or IDX files; those of a published set get its name and classes."""
    if is_prepared(folder):
        return load_prepared(folder)
    arrays = read_idx_folder(folder)
    if published := _identify(arrays):
        return dataset_of_idx(arrays, published.name, published.class_names)
    return dataset_of_idx(arrays, folder.resolve().name)


def _load_published(published: Published) -> Dataset:
    """Load a published set from the first place that has it, or download it."""
    for folder in _places(published):
        arrays = read_idx_folder(folder)
        found = _identify(arrays)
        if found is published:
            return dataset_of_idx(arrays, published.name, published.class_names)
        if found is None or folder.name == published.name:
            raise DataError(
                f"the IDX files in {str(folder)!r} are not those of {published.name}: "
                f"give them as --data {str(folder)!r}, or remove them"
            )
    arrays = read_idx_folder(download(published, cache_folder() / published.name))
    return dataset_of_idx(arrays, published.name, published.class_names)


def _places(published: Published) -> list[Path]:
    """List the local folders that seem to hold a published set, the first choice first."""
    folders = [SYSTEM_FOLDER / published.name]
    if root := os.environ.get("VAEGAN_DATA"):
        if not Path(root).is_dir():
            raise DataError(f"VAEGAN_DATA names {root!r}, which is no folder: mend or unset it")
        folders = [Path(root) / published.name, Path(root), *folders]
    return [folder for folder in folders if any(folder.glob("t10k-labels*-ubyte*"))]


def _identify(arrays: dict[str, np.ndarray]) -> Published | None:
    """Return the published set that the arrays are, bit for bit, or None."""
    if arrays.keys() != set(ROLES):
        return None
    for published in PUBLISHED:
        content = published.content
        # Small files come first: most strangers are told apart by a few bytes.
        for role in sorted(ROLES, key=lambda role: arrays[role].nbytes):
            values = arrays[role]
            if idx_digest(values[..., 0] if values.ndim == 4 else values) != content[role]:
                break
        else:
            return published
    return None


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "digits": load_digits,
    "mnist": lambda: _load_published(MNIST),
    "fashion-mnist": lambda: _load_published(FASHION_MNIST),
}

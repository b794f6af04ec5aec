"""IDX, the file format of MNIST: a magic number, the sizes, then the bytes. Read strictly.

byte  0-1   0, 0
byte  2     0x08, the code of unsigned bytes (no other type is read)
byte  3     number of dimensions
then        each dimension as a big-endian uint32, then the values, last dimension fastest
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path

import numpy as np

from vaegan.data.dataset import Dataset, Split, carve_validation
from vaegan.errors import DataError

__all__ = ["dataset_of_idx", "idx_digest", "read_idx", "read_idx_folder"]

ROLES = ("train-images", "train-labels", "t10k-images", "t10k-labels")
"""The four files of a data set, by the beginning of their names."""

VALIDATION_SHARE = 1 / 12  # MNIST: 5,000 of 60,000
SPLIT_SEED = 0

_FILE_NAME = re.compile(r"((?:train|t10k)-(?:images|labels))[-.]idx[134]-ubyte(?:\.gz)?")
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_LIMIT = 1032  # no deflate stream unpacks to more than this many times its size
_AGAIN = "copy or download the file again"


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not (told by its content, not its name).

    Memory and time are bounded by the declared size, and that by the size of the file.

    Returns:
        uint8 array of 1 to 4 dimensions, none of them 0, writable.

    Raises:
        DataError: no such file, another format or dtype, more or fewer bytes than declared.
    """
    path = Path(path)
    quoted = repr(str(path))
    try:
        if not path.is_file():
            raise DataError(f"no file {quoted}: check the path")
        size = path.stat().st_size
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not zipped:
                return _read_values(file, size, size, quoted)
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_values(stream, None, size * _DEFLATE_LIMIT, quoted)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise DataError(f"cannot read {quoted} ({error}): {_AGAIN}") from error


def _read_values(
    stream: BufferedReader | gzip.GzipFile, size: int | None, limit: int, quoted: str
) -> np.ndarray:
    """Read header and values; `size`: exact length in bytes, if known; `limit`: the greatest."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 4:
        raise DataError(f"{quoted} is no IDX file (it begins with {magic.hex() or 'nothing'})")
    if magic[2] != 0x08:
        raise DataError(f"{quoted} holds values of IDX type 0x{magic[2]:02x}: only 0x08 (uint8)")
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise DataError(f"{quoted} ends within its header: {_AGAIN}")
    shape = struct.unpack(f">{magic[3]}I", header)
    if 0 in shape:
        raise DataError(f"{quoted} declares the shape {shape}: it holds nothing")

    # Compare the declared size with what can be there before any memory is taken.
    expected, held = math.prod(shape), None if size is None else size - 4 - len(header)
    if expected > limit or held not in (None, expected):
        there = f"at most {limit}" if held is None else f"{held}"
        raise DataError(
            f"{quoted} declares {expected} bytes, shape {shape}, and holds {there}: {_AGAIN}"
        )
    values = np.empty(expected, np.uint8)
    view, filled = memoryview(values.data), 0
    while filled < expected and (count := stream.readinto(view[filled:])):
        filled += count
    if filled < expected:
        raise DataError(
            f"{quoted} declares {expected} bytes, shape {shape}, and holds {filled}: {_AGAIN}"
        )
    if stream.read(1):
        raise DataError(f"{quoted} goes on after the {expected} bytes it declares: {_AGAIN}")
    return values.reshape(shape)


def idx_digest(values: np.ndarray) -> str:
    """Return the sha256 (hex) of the uncompressed IDX file that holds `values` (uint8)."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 0x08, values.ndim, *values.shape)
    digest = hashlib.sha256(header)
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def read_idx_folder(folder: str | Path) -> dict[str, np.ndarray]:
    """Read the four IDX files of a folder: train and t10k, images and labels.

    Names are those of MNIST, `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, with or
    without `.gz`; of two the uncompressed one is read. Without a file of labels, neither of train
    nor of t10k, the images are unlabelled.

    Returns:
        By role ("train-images", ...): uint8 images (N, H, W, C) and, if there are any, labels (N,).

    Raises:
        DataError: a file is missing or damaged, or images and labels do not fit together.
    """
    folder = Path(folder)
    quoted = repr(str(folder))
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot list the folder {quoted} ({error.strerror}): check it") from error
    found: dict[str, str] = {}
    for name in names:
        if match := _FILE_NAME.fullmatch(name):
            role = match[1]
            found[role] = min(found.get(role, name), name, key=lambda n: n.endswith(".gz"))
    unlabelled = bool(found) and not any(role.endswith("labels") for role in found)
    needed = ROLES[::2] if unlabelled else ROLES
    missing = [role for role in needed if role not in found]
    if missing:
        seen = ", ".join(repr(name) for name in names[:6]) or "nothing"
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        wanted = ", ".join(
            f"{role}-idx{3 if role.endswith('images') else 1}-ubyte[.gz]" for role in missing
        )
        raise DataError(
            f"{quoted} lacks {wanted} (found: {seen}{more}): give the IDX folder, or "
            "make a data set of image files first: vaegan data prepare"
        )

    # Bring the images to (N, H, W, C) and check that each has its label.
    arrays = {role: read_idx(folder / found[role]) for role in needed}
    for part in ("train", "t10k"):
        images, images_name = arrays[f"{part}-images"], repr(found[f"{part}-images"])
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4 or images.shape[3] not in (1, 3):
            raise DataError(
                f"{images_name} in {quoted} has the shape {images.shape}: "
                "images are (N, H, W) or (N, H, W, C) with C = 1 or 3"
            )
        arrays[f"{part}-images"] = images
        if unlabelled:
            continue
        labels, labels_name = arrays[f"{part}-labels"], repr(found[f"{part}-labels"])
        if labels.ndim != 1:
            raise DataError(
                f"{labels_name} in {quoted} has the shape {labels.shape}: labels are (N,)"
            )
        if len(images) != len(labels):
            raise DataError(
                f"{images_name} holds {len(images)} images but {labels_name} {len(labels)} labels "
                f"in {quoted}: take both files from one source"
            )
    return arrays


def dataset_of_idx(
    arrays: Mapping[str, np.ndarray], name: str, class_names: tuple[str, ...] = ()
) -> Dataset:
    """Build a data set of the arrays of `read_idx_folder`.

    One image in twelve of the training file, stratified, fixed, is the validation split. Without
    `class_names` there are max(label) + 1 classes, named by their numbers. Where classes are too
    small to spare an image each, the validation split is smaller, at worst empty.

    Raises:
        DataError: a label without a class, or images of two sizes.
    """
    parts = {}
    for part in ("train", "t10k"):
        labels = arrays.get(f"{part}-labels")
        parts[part] = Split(
            arrays[f"{part}-images"], None if labels is None else labels.astype(np.int64)
        )
    numbers = parts["train"].labels
    if numbers is not None and not class_names:
        top = max(int(arrays[f"{part}-labels"].max()) for part in parts)
        class_names = tuple(str(label) for label in range(top + 1))
    count = len(parts["train"])
    most = count - (1 if numbers is None else len(np.unique(numbers)))
    size = min(round(count * VALIDATION_SHARE), most)
    train, validation = carve_validation(parts["train"], size, SPLIT_SEED)
    return Dataset(name, train, validation, parts["t10k"], class_names)

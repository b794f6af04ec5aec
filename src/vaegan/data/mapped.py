"""Arrays in .npy files, memory-mapped: in memory is what is being read, while it is read.

Pages of a mapped file count as this process's memory until they are given back, so that one epoch
would make it as large as the file. And a page that is not in memory is fetched when it is touched,
one after the other. `gathered` asks for all pages of a batch at once, and gives them back.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from vaegan.errors import DataError

__all__ = ["gathered", "is_mapped", "open_array", "release"]


def open_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Map a .npy file of exactly this shape and dtype, to be read; nothing is read but its header.

    Raises DataError, which completes the sentence that begins with the file's name.
    """
    try:
        # NumPy's own reader maps no objects: opening a file cannot run code.
        array = np.lib.format.open_memmap(path, mode="r")
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError("is missing") from None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"cannot be read ({' '.join(str(error).split())[:80]})") from None
    if (array.shape, array.dtype) != (shape, np.dtype(dtype)) or not array.flags.c_contiguous:
        raise DataError(f"holds {array.dtype} of shape {array.shape}, not {dtype} of {shape}")
    if size != array.offset + array.nbytes:
        raise DataError(f"has {size} bytes, not {array.offset + array.nbytes}")
    return np.asarray(array)


def gathered(array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """``array[indices]``, a copy; indices int (M,) or bool (N,)."""
    if mapping := _mapping(array):
        rows = np.flatnonzero(indices) if indices.dtype == bool else indices % max(len(array), 1)
        _fetch(mapping, array, rows)
    taken = array[indices]
    release(array)
    return taken


def release(array: np.ndarray) -> None:
    """Give the pages of a mapped array back; the file, and the system's own cache, keep them."""
    mapping = _mapping(array)
    if mapping and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def is_mapped(array: np.ndarray) -> bool:
    """Whether the values lie in a file rather than in memory."""
    return _mapping(array) is not None


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """The mapping that an array is a view of, if there is one."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _fetch(mapping: mmap.mmap, array: np.ndarray, rows: np.ndarray) -> None:
    """Have the system read rows (0 <= row < N) of a mapped array, all at once, before we do."""
    if not len(rows) or not hasattr(mmap, "MADV_WILLNEED") or not array.flags.c_contiguous:
        return
    begin = array.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
    starts = begin + np.unique(rows) * array.strides[0]
    first = starts // mmap.PAGESIZE * mmap.PAGESIZE
    for start, length in zip(first.tolist(), (starts - first + array.strides[0]).tolist()):
        mapping.madvise(mmap.MADV_WILLNEED, start, length)

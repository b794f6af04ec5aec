"""Work on many rows in bounded memory: a batch at a time, whatever their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["BATCH", "Results", "in_batches"]

BATCH = 128
"""What a layer makes of so many 28 x 28 images still fits into most processors' last cache."""

Results = tuple[Tensor | None, ...]


def in_batches(work: Callable[..., Results], *rows: Any, batch: int = BATCH) -> Results:
    """`work` on `batch` rows of every tensor or array at a time; what it gives, joined.

    rows: (N, ...) each, or None, which stays None. What `work` gives is a tuple of tensors (B, ...)
    and Nones; the result is the same tuple of (N, ...). Beside it no more is held than one batch
    needs. Autograd and batch statistics want one pass: this is for neither.
    """
    count = len(rows[0])
    if count <= batch:
        return work(*rows)
    joined: Results = ()
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        made = work(*(None if row is None else row[part] for row in rows))
        if not joined:
            joined = tuple(
                None if one is None else one.new_empty((count, *one.shape[1:])) for one in made
            )
        for whole, one in zip(joined, made):
            if whole is not None and one is not None:
                whole[part] = one
    return joined

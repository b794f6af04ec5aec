"""Memory that a training process keeps: the C library's settings for it."""

from __future__ import annotations

import ctypes

__all__ = ["keep_memory"]

# Names and numbers of glibc's malloc.h; old versions take no threshold above 32 MiB.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER, THRESHOLDS = -1, (2**31 - 1, 32 << 20)


def keep_memory() -> bool:
    """Have this process keep what it frees until it ends; False where that cannot be set.

    By default glibc hands the free end of its heap back, and maps every block of more than 32 MiB
    anew: a step on large images waits for the kernel to clear pages. In exchange, what the process
    holds stays at its peak. Other C libraries stay as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = bool(mallopt(TRIM_THRESHOLD, NEVER))
    return any(mallopt(MMAP_THRESHOLD, size) for size in THRESHOLDS) and kept

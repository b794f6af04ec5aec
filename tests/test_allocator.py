"""Memory that is kept is not asked of the kernel again."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from vaegan.allocator import MMAP_THRESHOLD, NEVER, TRIM_THRESHOLD, keep_memory

FAULTS = """
import resource
import numpy as np
from vaegan.allocator import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(3 << 20)  # 24 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's alone")
def test_kept_memory_is_touched_without_faults():
    """Eight arrays of 24 MiB have 49,152 pages of 4 KiB; kept ones are there already."""
    ended = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 100


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_memory()


@pytest.mark.parametrize("largest", [2**31 - 1, 32 << 20, 0])
def test_an_old_library_keeps_what_it_can(monkeypatch, largest):
    """Versions that refuse a threshold above 32 MiB get that; one that refuses all says so."""
    kept = {}

    class Library:
        def mallopt(self, name, size):
            if name == MMAP_THRESHOLD and size > largest:
                return 0
            kept[name] = size
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    assert keep_memory() == (largest > 0)
    assert kept == {TRIM_THRESHOLD: NEVER} | ({MMAP_THRESHOLD: largest} if largest else {})

"""Memory that is kept is not asked of the kernel again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from vaegan.allocator import keep_memory

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's setting")
def test_kept_memory_is_touched_without_faults():
    """Eight arrays of 24 MiB have 49,152 pages of 4 KiB; kept ones are there already."""
    ended = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 100


@pytest.mark.skipif(platform.libc_ver()[0] == "glibc", reason="any other C library")
def test_other_libraries_are_left_alone():
    """No more is promised than False."""
    assert not keep_memory()

"""What the numbers were measured on. No host names."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["facts", "resident"]

CPUS = Path("/proc/cpuinfo")
STATUS = Path("/proc/self/status")


def facts(threads: int) -> dict[str, Any]:
    """Processor, cores, threads, versions; the GPU where there is one."""
    import torch

    import vaegan

    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": [
            name for name, there in torch.cpu.get_capabilities().items() if "bf16" in name and there
        ],
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vaegan": vaegan.__version__,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    """The processor's name, as the kernel gives it."""
    if CPUS.is_file():
        for line in CPUS.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def resident() -> dict[str, float | None]:
    """Memory of this process in MB: the most it ever held, and what of it no file backs."""
    if not STATUS.is_file():
        return {"peak_mb": None, "private_mb": None}
    lines = dict(line.split(":", 1) for line in STATUS.read_text("utf-8").splitlines())
    peak, private = (int(lines[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon"))
    return {"peak_mb": peak, "private_mb": private}

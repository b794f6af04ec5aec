"""Where to compute and in which precision: from a flag to what this machine has."""

from __future__ import annotations

import torch

from vaegan.errors import RunError

__all__ = ["device_named", "precision_named"]


def device_named(name: str) -> str:
    """`auto`, `cpu`, `cuda` or `mps` -> a device that is there; RunError when it is not."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available.get(name, False):
        raise RunError(f"device {name!r} is not available here; use --device auto")
    return name


def precision_named(name: str, device: str) -> str:
    """`auto`, `fp32` or `bf16` -> the precision to use on a device.

    bfloat16 pays on GPUs and CPUs that multiply it in hardware (AVX512-BF16, AMX).
    """
    if name != "auto":
        return name
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if native else "fp32"
    capable: dict[str, object] = {}
    if device == "cpu":
        capable = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if capable.get("avx512_bf16") or capable.get("amx_bf16") else "fp32"

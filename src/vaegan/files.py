"""Every write of ours: whole or not at all. safetensors and JSON, nothing that can run code."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaegan.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "locked",
    "read_tensors",
    "remedy",
    "replacing",
    "sync_directory",
    "write_json",
    "write_tensors",
]

MAX_HEADER = 1 << 20


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it into place.

    Whatever goes wrong, `path` is either what it was or whole. A full disk is one line. Without
    `sync` nothing waits for the disk, and after a power cut `path` may be damaged: for many small
    files that whoever reads them checks.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # some writers leave 0600
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            sync_directory(path.parent)
    except OSError as error:
        _discard(temporary)
        raise RunError(f"cannot write {path}: {remedy(error)}") from None
    except BaseException as error:
        _discard(temporary)
        # safetensors reports I/O errors by its own exception.
        if code := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(code[1])
            advice = remedy(OSError(number, os.strerror(number)))
            raise RunError(f"cannot write {path}: {advice}") from None
        raise


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _discard(temporary: Path) -> None:
    """Remove a temporary file, if there is one and it can be removed."""
    with suppress(OSError):
        temporary.unlink()


def remedy(error: OSError) -> str:
    """What went wrong and what to do about it."""
    return {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "permission denied; choose another directory",
        errno.EROFS: "the disk is read-only; choose another directory",
    }.get(error.errno or 0, f"{error.strerror or error}; choose another place")


def sync_directory(directory: Path) -> None:
    """Make renames in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(directory: Path, being: str, flag: str) -> Iterator[None]:
    """Own a directory, made if need be; the kernel frees the lock when the owner dies.

    RunError, with what is `being` done there and the `flag` for another, when somebody owns it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"cannot write into {directory}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 32, 0).decode() or "another process"
            raise RunError(
                f"{directory} is being {being} by process {owner}; wait, or choose another {flag}"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def write_json(path: Path, tree: Any) -> None:
    """Write a JSON file with two-space indents, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all; tensors may be on any device."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary)


def read_tensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a safetensors file whose names, types and shapes are exactly those of `expected`.

    The header is compared before any tensor is read. Raises RunError naming the file and the
    first tensor that does not fit, or that holds a value which is not finite.
    """
    import torch
    from safetensors.torch import load_file

    declared = _header(path)
    wanted = {name: list(tensor.shape) for name, tensor in expected.items()}
    for name, shape in wanted.items():
        if name not in declared:
            raise RunError(f"{path}: tensor {name!r} is missing; it is not this model's file")
        if declared[name]["shape"] != shape:
            raise RunError(
                f"{path}: tensor {name!r} has shape {declared[name]['shape']}, expected {shape}"
            )
    for name in declared:
        if name not in wanted:
            raise RunError(f"{path}: tensor {name!r} is unknown; it is not this model's file")
    try:
        tensors = load_file(path)
    except Exception as error:  # the reader's own exception type, of whatever kind
        raise RunError(f"{path} is damaged: {error}; restore it or train again") from None
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            raise RunError(f"{path}: tensor {name!r} has type {tensor.dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise RunError(f"{path}: tensor {name!r} holds values that are not finite")
    return tensors


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """Names, types and shapes declared by a safetensors file, without reading the tensors."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MAX_HEADER:
                raise RunError(f"{path} is not a safetensors file")
            tree = json.loads(file.read(length))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise RunError(f"{path} is not a safetensors file") from None
    if not isinstance(tree, dict):
        raise RunError(f"{path} is not a safetensors file")
    tree.pop("__metadata__", None)
    if not all(isinstance(entry, dict) and "shape" in entry for entry in tree.values()):
        raise RunError(f"{path} is not a safetensors file")
    return tree

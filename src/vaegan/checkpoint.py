"""Checkpoints: a directory each, renamed into place when whole, with a digest of every file."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaegan.errors import RunError
from vaegan.files import sync_directory, write_json, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["discard_newer", "latest", "load", "reached", "save"]

KEPT = 2


def save(directory: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> Path:
    """Write ``directory/step-00000120/`` and keep the newest two; `numbers["step"]` names it.

    The directory is written under another name, flushed, and renamed: it exists whole or not.
    """
    final = directory / f"step-{numbers['step']:08d}"
    building = directory / f".{final.name}.tmp"
    for leftover in directory.glob(".step-*.tmp"):
        shutil.rmtree(leftover)
    building.mkdir(parents=True)
    try:
        write_tensors(building / "state.safetensors", tensors)
        write_json(building / "state.json", numbers)
        names = ("state.safetensors", "state.json")
        write_json(building / "manifest.json", {name: digest(building / name) for name in names})
        if final.exists():
            shutil.rmtree(final)
        building.rename(final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    sync_directory(directory)
    for old in sorted(directory.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return final


def latest(directory: Path) -> Path | None:
    """The newest checkpoint whose files are what its manifest says; None when there is none.

    Raises RunError, naming the damaged file, when there are checkpoints and none is whole.
    """
    problem = ""
    for candidate in sorted(directory.glob("step-*"), reverse=True):
        problem = _problem(candidate)
        if not problem:
            return candidate
    if problem:
        raise RunError(f"no checkpoint is whole: {problem}; start over with --new")
    return None


def discard_newer(found: Path) -> None:
    """Remove the checkpoints after `found`: `latest` has judged them damaged."""
    for other in found.parent.glob("step-*"):
        if other.name > found.name:
            shutil.rmtree(other)


def reached(directory: Path) -> dict[str, Any] | None:
    """The numbers of the newest checkpoint, as they stand there; None where none can be read."""
    for candidate in sorted(directory.glob("step-*"), reverse=True):
        try:
            numbers: dict[str, Any] = json.loads((candidate / "state.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        return numbers
    return None


def load(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and numbers of a checkpoint that `latest` has verified."""
    from safetensors.torch import load_file

    numbers: dict[str, Any] = json.loads((checkpoint / "state.json").read_text("utf-8"))
    return load_file(checkpoint / "state.safetensors"), numbers


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(checkpoint: Path) -> str:
    """What is wrong with a checkpoint; empty when nothing is."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text("utf-8"))
        for name, expected in manifest.items():
            if digest(checkpoint / name) != expected:
                return f"{checkpoint / name} is damaged"
    except (OSError, ValueError) as error:
        return f"{checkpoint}: {error}"
    return ""

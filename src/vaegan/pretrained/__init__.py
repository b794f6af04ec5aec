"""Models that come with the package: each with its weights, settings, measures, and a card."""

from __future__ import annotations

from pathlib import Path

__all__ = ["NAMES", "shipped"]

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/model.safetensors")))


def shipped(name: str | Path) -> Path | None:
    """The folder of the model called `name`; None when there is none, or `name` is a run here."""
    if str(name) not in NAMES or (Path(name) / "config.json").is_file():
        return None
    return FOLDER / name

"""The run directory, which describes itself, and what it lets you do.

config.json          every setting but the budget
model.safetensors    the averaged model, up to date whenever the run stops
checkpoints/         the newest two; what a resumed run starts from
stats.jsonl          one JSON object a line: step, losses, speed, what the schedule did
figures/ films/      pictures; films/weights/ holds what a film is drawn from
tensorboard/         the same numbers, and samples, where the extra is installed
looks.jsonl          the same: step, seconds, small measures of the averaged model (`vaegan.looks`)
alarms.jsonl         what looked wrong during training
metrics.json         what `vaegan evaluate` measured
report.html          what `vaegan report` wrote
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vaegan.config import RunConfig, read_config, validated
from vaegan.errors import RunError
from vaegan.files import locked, replacing, write_json
from vaegan.pretrained import NAMES, shipped

__all__ = ["RunDirectory"]

NO_RUN = "holds a model alone, and no run: give another directory"


class RunDirectory:
    """Paths and small files of one run. Opening it reads; `start` and training write."""

    def __init__(self, path: Path, written: Path | None = None):
        """`written` is where what is made FROM the run goes: into it, when left out."""
        self.path = path
        written = written or path
        self.config_path = path / "config.json"
        self.weights = path / "model.safetensors"
        self.checkpoints = path / "checkpoints"
        self.stats = path / "stats.jsonl"
        self.figures = written / "figures"
        self.films = written / "films"
        self.film_weights = path / "films" / "weights"
        self.events = path / "tensorboard"
        self.report = written / "report.html"
        self.metrics = written / "metrics.json"
        self.looks = path / "looks.jsonl"
        self.alarms = path / "alarms.jsonl"

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """A directory that `vaegan train` made; RunError says what is missing.

        A model that comes with the package is a run too; what is made from it goes to a folder of
        its name here.
        """
        ours = shipped(path)
        if ours is not None:
            return cls(ours, written=Path(path))
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunError(
                f"{path} does not exist; train first: vaegan train --outdir {path}; or "
                f"name {', '.join(NAMES)}, which comes with the package"
            )
        if not run.config_path.is_file():
            raise RunError(f"{path} is not a run: it has no config.json")
        return run

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config_path.is_file()

    def config(self) -> RunConfig:
        """The settings of the run; ConfigError for a file that is not one of ours, RunError for
        that of a model alone (`Model.save_pretrained`).
        """
        tree = read_config(self.config_path)
        if "recipe" not in tree:
            raise RunError(f"{self.path} {NO_RUN}")
        return validated(RunConfig, tree, str(self.config_path))

    def start(self, config: RunConfig, *, new: bool) -> None:
        """Write the config of a fresh run, or check that the run here asks the same question.

        `new` throws away whatever run is here. RunError lists the first settings that differ.
        """
        if self.exists and "recipe" not in read_config(self.config_path):
            raise RunError(f"{self.path} {NO_RUN}")
        if not self.exists and not new and any(self.checkpoints.glob("step-*")):
            raise RunError(f"{self.path} has checkpoints but no config.json; start over with --new")
        if new:
            for part in (self.checkpoints, self.figures, self.films, self.events):
                shutil.rmtree(part, ignore_errors=True)
            for file in (
                self.config_path,
                self.weights,
                self.stats,
                self.report,
                self.metrics,
                self.looks,
                self.alarms,
            ):
                file.unlink(missing_ok=True)
        if self.exists:
            there, here = self.config().model_dump(), config.model_dump()
            there["data"] = here["data"]  # the fingerprint tells whether the images are the same
            differences = list(_differences(there, here))
            if differences:
                shown = "; ".join(differences[:4]) + ("; ..." if len(differences) > 4 else "")
                raise RunError(
                    f"{self.path} holds another run: {shown}. Choose another --outdir, or start "
                    "over with --new"
                )
            return
        write_json(self.config_path, config.model_dump(mode="json"))

    def locked(self) -> AbstractContextManager[None]:
        """Own the directory while training."""
        return locked(self.path, "trained", "--outdir")

    def sweep(self) -> None:
        """Remove what killed writers left behind; for the owner of the lock only."""
        for folder in (self.path, self.films, self.film_weights, self.figures):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of stats.jsonl; a line cut short by a crash is left out."""
        return _rows(self.stats)

    def look_rows(self) -> list[dict[str, Any]]:
        """The rows of looks.jsonl, as `rows`."""
        return _rows(self.looks)

    def alarm_rows(self) -> list[dict[str, Any]]:
        """The rows of alarms.jsonl, as `rows`: step, name, text, value and limit."""
        return _rows(self.alarms)

    def forget_after(self, step: int) -> None:
        """Drop rows, looks, alarms and film weights beyond `step`: the run goes on from there."""
        for path in (self.stats, self.looks, self.alarms):
            rows = [row for row in _rows(path) if row["step"] <= step]
            if rows:
                with replacing(path) as temporary:
                    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            else:
                path.unlink(missing_ok=True)
        for path in self.film_weights.glob("step-*.safetensors"):
            if int(path.stem.removeprefix("step-")) > step:
                path.unlink()


def _rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line; none where there is no file."""
    rows = []
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows


def _differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """`key: old -> new` for every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield f"{at} is {_short(old)} there, {_short(new)} here"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."

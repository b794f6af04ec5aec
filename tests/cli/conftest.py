"""The command line, called in this process; and a tiny trained run of any system."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vaegan.cli import main
from vaegan.metrics import diversity
from vaegan.metrics.classifier import TrainingSettings
from vaegan.metrics.judge import Judge

QUICK = TrainingSettings(width=8, num_features=16, steps=60, batch=64)
TINY = ["--data", "digits", "--recipe", "dense", "--steps", "3", "--batch", "8"]


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def paths(self) -> list[Path]:
        """What it printed, a path a line."""
        return [Path(line) for line in self.out.splitlines()]


Command = Callable[..., Ended]


def run_command(*arguments: object) -> Ended:
    """`vaegan ARGUMENTS`: exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    code = end.value.code
    return Ended(code if isinstance(code, int) else -1, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def vaegan() -> Command:
    """Return the function that runs a command."""
    return run_command


@pytest.fixture(scope="session")
def works() -> Command:
    """Return the function that runs a command which must end well."""

    def ended_well(*arguments: object) -> Ended:
        ended = run_command(*arguments)
        assert ended.code == 0, ended.err
        return ended

    return ended_well


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Return the function that gives a system's run of three steps, shared: not to be changed."""
    runs: dict[str, Path] = {}

    def of(system: str = "cvae-gan") -> Path:
        if system not in runs:
            path = tmp_path_factory.mktemp("runs") / system
            ended = run_command("train", *TINY, "--system", system, "--outdir", path)
            assert ended.code == 0, ended.err
            runs[system] = path
        return runs[system]

    yield of


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A judge that trains in a second, kept for all tests, and classifiers of a moment."""
    trained_on, cache = Judge.trained_on, tmp_path_factory.getbasetemp() / "quick-judges"

    def quick(dataset: Any, _: Any = None, progress: Any = None, task: Any = None) -> Judge:
        return trained_on(dataset, cache, progress, QUICK, task=task)

    monkeypatch.setattr(Judge, "trained_on", staticmethod(quick))
    monkeypatch.setattr(diversity, "CAS_SETTINGS", replace(QUICK, steps=12))

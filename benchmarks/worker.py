"""A contender in a process of its own: it runs laps on demand and keeps still in between.

So no contender inherits another's threads, allocator or caches, and one may run in another Python.
Standard library alone: that Python need not have anything of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["NotRun", "Worker", "serve"]

ROOT = Path(__file__).resolve().parent.parent


class NotRun(Exception):
    """A contender or a measure could not run; the text says why, in one line."""


class Worker:
    """A process that runs `python -m benchmarks.MODULE SPEC` and answers on its pipes."""

    def __init__(
        self,
        module: str,
        spec: Mapping[str, Any],
        *,
        threads: int,
        python: str = sys.executable,
    ):
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        own = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        command = [python, "-m", f"benchmarks.{module}", json.dumps(spec | {"threads": threads})]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, **own},
            )
        except OSError as error:
            self.errors.close()
            raise NotRun(f"{python}: {error.strerror}") from None
        try:
            self.about = self._answer()
        except NotRun:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lap(self) -> float:
        """Run one lap; seconds a step."""
        return float(self.ask("lap")["seconds"])

    def ask(self, word: str) -> dict[str, Any]:
        """Send one word and wait for the answer."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it ended; `_answer` says why
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()
        self.errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["ended without a word"]
            raise NotRun(said[-1])
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(
    step: Callable[[], object],
    steps: int,
    *,
    steps_a_call: int = 1,
    settled: Callable[[], object] = lambda: None,
    about: Mapping[str, Any] | None = None,
    questions: Mapping[str, Callable[[], Mapping[str, Any]]] | None = None,
) -> None:
    """The worker's side: answer `lap` by running `steps` steps, other words by `questions`.

    A call of `step` makes `steps_a_call` of them. `settled` waits until the device is done.
    What anybody prints goes to stderr, not into the pipe.
    """
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def lap() -> Mapping[str, Any]:
        began = time.perf_counter()
        for _ in range(steps // steps_a_call):
            step()
        settled()
        return {"seconds": (time.perf_counter() - began) / steps}

    known = {"lap": lap, **(questions or {})}
    print(json.dumps(about or {}), file=pipe, flush=True)
    for word in sys.stdin:
        print(json.dumps(known[word.strip()]()), file=pipe, flush=True)

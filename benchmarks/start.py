"""How long people wait: to the first step of `vaegan train`, for `import vaegan`, for help."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding, Target
from benchmarks.setting import Setting
from benchmarks.worker import ROOT, NotRun

__all__ = ["measure"]

QUESTION = "Waiting"
FIRST_STEP, IMPORT = 3.0, 0.05
PATIENCE, GLANCE = 120.0, 0.002


def measure(setting: Setting) -> Finding:
    """Whole processes, from their start."""
    finding = Finding("start", QUESTION)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(setting.threads),
        "PYTHONPATH": str(ROOT / "src"),
    }

    def whole(*arguments: str) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise NotRun(f"python {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1:]}")
        return time.perf_counter() - began

    imports = Contest(
        "Import",
        alternate(
            {
                "python alone": lambda: whole("-c", "pass"),
                "import vaegan": lambda: whole("-c", "import vaegan"),
                "vaegan --help": lambda: whole("-m", "vaegan", "--help"),
                "import torch": lambda: whole("-c", "import torch"),
            },
            setting.rounds,
            setting.warmup,
        ),
        timed="process",
    )
    first = Contest(
        f"First step of `vaegan train --data {setting.data}`",
        alternate(
            {
                "import torch": lambda: whole("-c", "import torch"),
                "first row of stats.jsonl": lambda: first_step(
                    ["--data", setting.data, "--threads", str(setting.threads)], environment
                ),
            },
            setting.rounds,
            setting.warmup,
        ),
        timed="process",
    )
    finding.contests += [imports, first]
    pairs = zip(imports.laps["import vaegan"], imports.laps["python alone"])
    taken = statistics.median(ours - alone for ours, alone in pairs)
    finding.targets += [
        Target("import vaegan, without Python's own start", 1e3 * IMPORT, 1e3 * taken, " ms", True),
        Target(
            "from `vaegan train` to its first step",
            FIRST_STEP,
            statistics.median(first.laps["first row of stats.jsonl"]),
            " s",
            True,
        ),
    ]
    return finding


def first_step(arguments: Sequence[str], environment: dict[str, str]) -> float:
    """Seconds from the start of `vaegan train` until its first step is written down."""
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "run" / "stats.jsonl"
        command = [sys.executable, "-m", "vaegan", "train", "--steps", "1", *arguments]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--outdir", str(stats.parent)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (stats.is_file() and stats.stat().st_size):
                if process.poll() not in (None, 0) or time.perf_counter() - began > PATIENCE:
                    raise NotRun(f"`{' '.join(command[1:])}` made no step")
                time.sleep(GLANCE)
            return time.perf_counter() - began
        finally:
            process.wait()

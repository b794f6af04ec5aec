"""The same training on one process and on two that share it (gloo, through torchrun)."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding
from benchmarks.setting import Setting
from benchmarks.worker import ROOT, NotRun

__all__ = ["launched", "measure", "run"]

QUESTION = "One rank and two, a thread each"
BATCH = 256


def measure(setting: Setting) -> Finding:
    """The same global batch on both; a lap is a run, its median step the time."""
    finding = Finding("ranks", QUESTION)
    steps = 12 if setting.quick else 40
    try:
        laps = alternate(
            {
                "1 rank": lambda: run(1, setting.data, steps, BATCH),
                "2 ranks": lambda: run(2, setting.data, steps, BATCH),
            },
            min(setting.rounds, 5),
            0,
        )
    except NotRun as reason:
        finding.not_run.append(str(reason))
        return finding
    notes = [f"`vaegan train` under torchrun, {steps} steps a lap, batch {BATCH} over all ranks."]
    finding.contests.append(Contest(f"cvae-gan, batch {BATCH}", laps, BATCH, notes))
    return finding


def run(ranks: int, data: str, steps: int, batch: int) -> float:
    """Seconds a step in the later half of a run; NotRun when torchrun says no."""
    with tempfile.TemporaryDirectory() as folder:
        outdir = Path(folder) / "run"
        command = ["vaegan", "train", "--data", data, "--steps", str(steps), "--threads", "1"]
        command += ["--batch", str(batch), "--outdir", str(outdir)]
        done = launched(ranks, *command)
        if done.returncode:
            ours = [line for line in done.stderr.splitlines() if line.startswith("vaegan:")]
            said = ours[-1] if ours else f"torchrun ended with {done.returncode}"
            raise NotRun(f"{ranks} ranks: {said}".replace(folder, "").strip())
        rows = [json.loads(line) for line in (outdir / "stats.jsonl").read_text().splitlines()]
    late = [row["seconds_per_step"] for row in rows if row["step"] > steps // 2]
    return statistics.median(late)


def launched(ranks: int, *command: str) -> subprocess.CompletedProcess[str]:
    """What torchrun makes of a module and its arguments in `ranks` processes of a thread each."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*start, "--nproc-per-node", str(ranks), "-m", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
    )

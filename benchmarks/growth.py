"""How a step's time and memory grow with batch, image size, width and the number of images."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding
from benchmarks.setting import Setting
from benchmarks.subject import Subject
from benchmarks.training import EVERYONE
from benchmarks.worker import Worker

__all__ = ["AXES", "measure"]

QUESTION = "Growth"
# What grows: the values of a full and of a quick run, and the settings that stay.
AXES: dict[str, tuple[tuple[float, ...], tuple[float, ...], dict[str, int]]] = {
    "batch": ((8, 16, 32, 64, 128, 256), (8, 16), {}),
    "image_size": ((28, 64, 128, 256), (16, 28), {"batch": 16}),
    "width": ((0.5, 1, 2, 4), (0.5, 1), {"batch": 16}),
    "images": ((1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000), {"batch": 16}),
}
COLUMNS = ("value", "seconds a step", "peak memory, MB", "private memory, MB", "parameters")


def measure(setting: Setting) -> Finding:
    """A contest along each axis in single precision, every point in a process of its own.

    Private memory leaves out what a file backs, such as the mapped images.
    """
    finding = Finding("growth", QUESTION)
    threads = setting.threads
    for axis, (full, quick, fixed) in AXES.items():
        start = Subject(data=setting.data, overrides=EVERYONE, **fixed)  # type: ignore[arg-type]
        with ExitStack() as stack:
            workers = {}
            for value in quick if setting.quick else full:
                number = value if axis == "width" else int(value)
                subject = replace(start, **{axis: number})
                worker = Worker("ours", subject.spec(), threads=threads)
                workers[number] = stack.enter_context(worker)
            lapped = {f"{axis} {value:,}": worker.lap for value, worker in workers.items()}
            laps = alternate(lapped, min(setting.rounds, 5), setting.warmup)
            memory = {value: worker.ask("memory") for value, worker in workers.items()}
            rows = [
                (
                    value,
                    statistics.median(seconds),
                    memory[value]["peak_mb"],
                    memory[value]["private_mb"],
                    worker.about["parameters"],
                )
                for (value, worker), seconds in zip(workers.items(), laps.values())
            ]
        batch = "" if axis == "batch" else f", batch {start.batch}"
        finding.contests.append(Contest(f"{axis}{batch}", laps))
        finding.grid(f"Growth with {axis}{batch}", COLUMNS, rows)
    return finding

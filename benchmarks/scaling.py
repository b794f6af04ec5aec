"""A cost model of training on many ranks, fitted here; what it predicts for GPUs (docs/scaling.md).

    step(B, W) = host + B / W * image + sum over messages of (latency + bytes / bandwidth)

`host` and `image` are fitted to steps of one rank, latency and bandwidth to sums over two gloo
ranks, and the whole is held against steps of two ranks that no part of it was fitted to. On GPUs
nothing was measured: there `image` is counted arithmetic over a share of the published peak.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ranks
from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding
from benchmarks.setting import Setting
from benchmarks.subject import Subject
from benchmarks.training import EVERYONE
from benchmarks.worker import NotRun, Worker
from vaegan.devices import precision_named

__all__ = ["fitted", "measure", "summed"]

QUESTION = "A cost model of many ranks"
BATCHES, CHECKED = (16, 32, 64, 128, 256), (64, 256)
# Published: NVIDIA H100 SXM, bfloat16 without sparsity; NVLink 4 and NDR InfiniBand, one way.
PEAK, NVLINK, INFINIBAND, GPUS_A_NODE = 989e12, 450e9, 50e9, 8
# Assumed: seconds a hop, within a machine and between machines; shares of the peak.
HOP, FAR_HOP, SHARES = 5e-6, 10e-6, (0.1, 0.6)
WORLDS, BATCH_OF = (8, 64, 1024), {64: 256, 256: 32}


def measure(setting: Setting) -> Finding:
    """Fit the model to one rank and to messages, test it on two ranks, and look ahead."""
    finding = Finding("scaling", QUESTION)
    # The recipe as `vaegan train` trains it: the two ranks do.
    subject = Subject(data=setting.data, precision=precision_named("auto", "cpu"))
    batches = BATCHES[:2] if setting.quick else BATCHES
    laps = alternate_batches(setting, subject, batches)
    finding.contests.append(Contest("one rank of one thread", laps))
    host, image = fitted(batches, [statistics.median(lap) for lap in laps.values()])

    told = messages(subject)
    sizes, seconds = zip(*told["seconds"])
    latency, number = fitted(sizes, seconds)
    finding.grid(
        "Fitted",
        ("", "value", "unit"),
        [
            ("host", 1e3 * host, "ms a step"),
            ("image", 1e3 * image, "ms an image"),
            ("latency of a sum over two gloo ranks", 1e6 * latency, "us"),
            ("bandwidth of it", 4e-9 / number, "GB/s"),
            ("messages", len(told["sent"]), "a step"),
            ("gradients and all else sent", 4e-6 * sum(told["sent"]), "MB a step"),
        ],
    )
    rows = []
    for batch in CHECKED[:1] if setting.quick else CHECKED:
        sending = sum(latency + number * size for size in told["sent"])
        predicted = host + batch / 2 * image + sending
        try:
            steps = 12 if setting.quick else 40
            runs = [ranks.run(2, setting.data, steps, batch) for _ in range(3)]
        except NotRun as reason:
            finding.not_run.append(str(reason))
            continue
        measured = statistics.median(runs)
        rows.append((batch, predicted, sending, measured, 100 * (predicted / measured - 1)))
    finding.grid(
        "Two ranks of one thread: predicted and measured",
        ("batch", "predicted, s a step", "of it messages", "measured, s a step", "error, %"),
        rows,
    )
    further = ahead(setting, told["sent"], host)
    finding.grid("Predicted for H100s, not measured", AHEAD, further)
    return finding


def alternate_batches(
    setting: Setting, subject: Subject, batches: Sequence[int]
) -> dict[str, list[float]]:
    """Seconds a step by batch, one process each, on one thread."""
    with ExitStack() as stack:
        workers = {}
        for batch in batches:
            worker = Worker("ours", replace(subject, batch=batch).spec(), threads=1)
            workers[f"batch {batch}"] = stack.enter_context(worker)
        laps = {name: worker.lap for name, worker in workers.items()}
        return alternate(laps, min(setting.rounds, 5), setting.warmup)


def messages(subject: Subject) -> dict[str, Any]:
    """What two ranks of `benchmarks.messages` found."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "messages.json"
        spec = json.dumps(subject.spec() | {"threads": 1})
        done = ranks.launched(2, "benchmarks.messages", spec, str(out))
        if not out.is_file():
            raise NotRun((done.stderr.strip().splitlines() or ["torchrun said nothing"])[-1])
        told: dict[str, Any] = json.loads(out.read_text())
        return told


def fitted(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """(a, b), neither below 0, of seconds = a + b size: least squares of the relative error."""
    x, t = np.asarray(sizes, float), np.asarray(seconds, float)
    rows = np.stack([1 / t, x / t], axis=1)
    a, b = np.linalg.lstsq(rows, np.ones(len(t)), rcond=None)[0]
    if a < 0 or b < 0:  # the best without the one that would be negative
        column = rows[:, 1] if a < 0 else rows[:, 0]
        only = float(column.sum() / (column @ column))
        return (0.0, only) if a < 0 else (only, 0.0)
    return float(a), float(b)


AHEAD = (
    *("image size", "GPUs", "batch a GPU", "share of peak", "compute, ms", "messages, ms"),
    *("images a second", "efficiency, %", "images a second, host-bound"),
)


def ahead(setting: Setting, sent: Sequence[int], host: float) -> list[tuple[Any, ...]]:
    """Rows of `AHEAD`: two image sizes, three numbers of GPUs, two shares of the peak.

    The last column is for a step whose kernels the host launches one by one, in `host` seconds.
    """
    rows: list[tuple[Any, ...]] = []
    for size, batch in BATCH_OF.items():
        if setting.quick and size > min(BATCH_OF):
            continue
        few = Subject(data=setting.data, image_size=size, batch=4, overrides=EVERYONE)
        with Worker("ours", few.spec(), threads=setting.threads) as worker:
            flop = worker.ask("arithmetic")["flop"] / few.batch
            parameters = worker.about["parameters"]
        # The largest message is the gradients; the others do not grow with the networks.
        numbers = [*sorted(sent)[:-1], parameters]
        for world in WORLDS:
            sending = sum(summed(4.0 * count, world) for count in numbers)
            for share in SHARES:
                compute = batch * flop / (share * PEAK)
                rate, whole = world * batch / (compute + sending), compute / (compute + sending)
                bound = world * batch / (max(compute, host) + sending)
                row = (size, world, batch, share, 1e3 * compute, 1e3 * sending, rate, 100 * whole)
                rows.append((*row, bound))
    return rows


def summed(size: float, world: int) -> float:
    """Seconds to sum `size` bytes over `world` GPUs: a ring on the slowest link, hops of a tree."""
    near = min(world, GPUS_A_NODE)
    machines = world / near
    link = NVLINK if machines == 1 else INFINIBAND
    hops = 2 * (math.log2(near) * HOP + math.log2(machines) * FAR_HOP)
    return 2 * (world - 1) / world * size / link + hops

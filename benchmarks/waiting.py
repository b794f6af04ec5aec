"""How often a step waits for the device; on a GPU also kernels launched, and steps a second."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import torch

from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding
from benchmarks.setting import Setting
from benchmarks.subject import Subject
from benchmarks.training import EVERYONE, TOGETHER
from benchmarks.worker import Worker

__all__ = ["measure"]

QUESTION = "Host synchronisations"


def measure(setting: Setting) -> Finding:
    """Tensor values that Python waits for in a step, and operators it calls, ours and plain."""
    finding = Finding("waiting", QUESTION)
    subject = Subject(data=setting.data, overrides=EVERYONE, steps=setting.steps(20))
    contenders = {
        "plain PyTorch, fp32": ("plain_training", subject),
        "vaegan, fp32": ("ours", subject),
        "vaegan, bf16, Muon": ("ours", replace(subject, precision="bf16", overrides=TOGETHER)),
    }
    rows = []
    for name, (module, one) in contenders.items():
        with Worker(module, one.spec(), threads=setting.threads) as worker:
            worker.lap()  # a first step makes the optimisers' memory
            counts = worker.ask("synchronisations")
        rows.append((name, counts["waits"], counts["operators"]))
    finding.grid("cvae-gan, default recipe, on the CPU", ("", "waits a step", "operators"), rows)
    if torch.cuda.is_available():
        _on_gpu(finding, setting, subject)
    else:
        finding.not_run.append("kernel launches and steps a second on a GPU: no CUDA here")
    return finding


def _on_gpu(finding: Finding, setting: Setting, subject: Subject) -> None:
    """Launches a step, and a contest on the GPU."""
    spec = subject.spec() | {"device": "cuda"}
    with ExitStack() as stack:
        plain = Worker("plain_training", spec, threads=setting.threads)
        workers = {"plain PyTorch, fp32": stack.enter_context(plain)}
        for precision in ("fp32", "bf16"):
            worker = Worker("ours", spec | {"precision": precision}, threads=setting.threads)
            workers[f"vaegan, {precision}"] = stack.enter_context(worker)
        laps = alternate({n: w.lap for n, w in workers.items()}, setting.rounds, setting.warmup)
        asked = {name: worker.ask("launches") for name, worker in workers.items()}
        waits = {name: worker.ask("synchronisations") for name, worker in workers.items()}
    finding.contests.append(Contest("cvae-gan on a GPU", laps, subject.batch))
    finding.grid(
        "On a GPU, a step",
        ("", "kernels launched", "graphs launched", "waits"),
        [(n, asked[n]["kernels"], asked[n]["graphs"], waits[n]["waits"]) for n in workers],
    )

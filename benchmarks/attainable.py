"""How much of what the machine can do a step does, and where the rest goes."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding, Target
from benchmarks.setting import Setting
from benchmarks.subject import Subject
from benchmarks.training import EVERYONE
from benchmarks.worker import Worker

__all__ = ["measure"]

QUESTION = "A step beside its bare convolutions and products"
AIM = 70.0
SHOWN = 12
# The limit is not to be lowered by the allocator handing pages back and forth.
KEPT = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


def measure(setting: Setting) -> Finding:
    """`cvae-gan`, default recipe, batch 64, in both precisions, each against its own limit."""
    finding = Finding("attainable", QUESTION)
    threads, rates = setting.threads, []
    subject = Subject(data=setting.data, overrides=EVERYONE, steps=setting.steps(2))
    for precision in ("fp32", "bf16"):
        spec = subject.spec() | {"precision": precision}
        with ExitStack() as stack:
            bare = stack.enter_context(Worker("bare", spec, threads=threads, environment=KEPT))
            step = stack.enter_context(Worker("ours", spec, threads=threads))
            contenders = {"bare operators": bare.lap, "vaegan": step.lap}
            laps = alternate(contenders, setting.rounds, setting.warmup)
            parts, flop = step.ask("account"), bare.about["flop"]
            heavy = bare.about["operators"][:SHOWN]
        contest = Contest(f"cvae-gan, batch {subject.batch}, {precision}", laps)
        finding.contests.append(contest)
        for name, one in contest.tree()["contenders"].items():
            rates.append((precision, name, flop / 1e9, flop / one["median"] / 1e9))
        share = 100 * contest.ratio("vaegan").value
        finding.targets.append(Target(f"{precision}, share of the limit", AIM, share, " %"))
        finding.grid(
            f"Where a step's time goes, {precision} (per cent of it, under the profiler)",
            ("", "%"),
            [(name, 100 * value) for name, value in parts["shares"].items()],
        )
        finding.grid(
            f"The heaviest bare operators, {precision}",
            ("operator", "shapes", "calls", "fastest as", "ms a step"),
            [
                (
                    row["operator"],
                    " ".join("x".join(map(str, shape)) for shape in row["shapes"]),
                    row["calls"],
                    row["best"],
                    1e3 * row["seconds"],
                )
                for row in heavy
            ],
        )
    finding.grid(
        "Arithmetic (convolutions and products, forward and backward)",
        ("", "", "GFLOP a step", "GFLOP/s"),
        rates,
    )
    return finding

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
Rate = tuple[str, str, str, float | None, float]


def measure(setting: Setting) -> Finding:
    """`cvae-gan`, batch 64, default recipe and the tutorial's, in both precisions, each against its
    own limit. The aim is the default recipe's.
    """
    finding = Finding("attainable", QUESTION)
    rates: list[Rate] = []
    for recipe, overrides in (("default", EVERYONE), ("tutorial", {})):
        for precision in ("fp32", "bf16"):
            subject = Subject(
                data=setting.data,
                recipe=recipe,
                precision=precision,
                overrides=overrides,
                steps=setting.steps(2),
            )
            _measure(finding, subject, setting, rates)
    finding.grid(
        "Arithmetic (convolutions and products, forward and backward)",
        ("", "", "", "GFLOP a step", "GFLOP/s"),
        rates,
    )
    return finding


def _measure(
    finding: Finding,
    subject: Subject,
    setting: Setting,
    rates: list[Rate],
) -> None:
    """A recipe in a precision: the contest with its bare operators, and where its time goes."""
    recipe, precision, threads = subject.recipe, subject.precision, setting.threads
    with ExitStack() as stack:
        bare = stack.enter_context(Worker("bare", subject.spec(), threads=threads))
        step = stack.enter_context(Worker("ours", subject.spec(), threads=threads))
        laps = alternate(
            {"bare operators": bare.lap, "vaegan": step.lap}, setting.rounds, setting.warmup
        )
        parts, flop = step.ask("account"), bare.about["flop"]
        heavy, square = bare.about["operators"][:SHOWN], bare.about["square"]
    title = f"cvae-gan, {recipe}, batch {subject.batch}, {precision}"
    contest = Contest(title, laps)
    finding.contests.append(contest)
    for name, one in contest.tree()["contenders"].items():
        rates.append((recipe, precision, name, flop / 1e9, flop / one["median"] / 1e9))
    rates.append((recipe, precision, "1,024 x 1,024 products", None, square / 1e9))
    if recipe == "default":
        share = 100 * contest.ratio("vaegan").value
        finding.targets.append(Target(f"{precision}, share of the limit", AIM, share, " %"))
    finding.grid(
        f"Where the time of a step goes, {recipe}, {precision} (per cent, under the profiler)",
        ("", "%"),
        [(name, 100 * value) for name, value in parts["shares"].items()],
    )
    finding.grid(
        f"The heaviest bare operators, {recipe}, {precision}",
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

"""Images a second in training: ours, plain PyTorch, pythae; the same networks and batch."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding, Target
from benchmarks.setting import Setting
from benchmarks.subject import Subject
from benchmarks.worker import NotRun, Worker

__all__ = ["EVERYONE", "TOGETHER", "measure"]

QUESTION = "Training the default recipe"
AIMS = {"bf16": 4.0, "fp32": 2.0}
TOGETHER = {"schedule.kind": "together"}
"""All networks step at every step, whoever is winning."""
EVERYONE = TOGETHER | {"optimiser.muon": "[]"}
"""What makes the work of a step the same in every program: all networks step, and by Adam."""
NOTE = (
    "All networks step at every step and by Adam, in every program. In a real run the equilibrium "
    "rule holds one back now and then, and matrices move by Muon."
)


def measure(setting: Setting) -> Finding:
    """Both systems; pythae's VAEGAN knows no labels, so it meets `vae-gan`."""
    finding = Finding("training", QUESTION)
    for system in ("cvae-gan", "vae-gan"):
        _race(finding, setting, system)
    return finding


def _race(finding: Finding, setting: Setting, system: str) -> None:
    """One system's contest and targets."""
    steps = setting.steps(4)
    subject = Subject(data=setting.data, system=system, overrides=EVERYONE, steps=steps)
    spec, threads, peer = subject.spec(), setting.threads, None
    with ExitStack() as stack:
        plain = Worker("plain_training", spec, threads=threads)
        workers = {"plain PyTorch, fp32": stack.enter_context(plain)}
        for precision in ("fp32", "bf16"):
            worker = Worker("ours", spec | {"precision": precision}, threads=threads)
            workers[f"vaegan, {precision}"] = stack.enter_context(worker)
        recipe = spec | {"precision": "bf16", "overrides": TOGETHER}
        muon = Worker("ours", recipe, threads=threads)
        workers["vaegan, bf16, Muon"] = stack.enter_context(muon)
        if system == "vae-gan":
            try:
                worker = stack.enter_context(_pythae(setting, subject))
                peer = f"pythae {worker.about['version']}, fp32"
                workers[peer] = worker
            except NotRun as reason:
                finding.not_run.append(f"pythae: {reason}")
        laps = alternate({n: w.lap for n, w in workers.items()}, setting.rounds, setting.warmup)
    contest = Contest(f"{system}, batch {subject.batch}", laps, subject.batch, [NOTE])
    finding.contests.append(contest)
    for base in filter(None, (contest.base, peer)):
        for precision in AIMS if base == contest.base else ("bf16",):
            found = contest.ratio(f"vaegan, {precision}", base).value
            what = f"{system} in {precision}, times {base}"
            finding.targets.append(Target(what, AIMS[precision], found))


def _pythae(setting: Setting, subject: Subject) -> Worker:
    """Pythae's contender; NotRun without a Python for it."""
    if setting.pythae is None:
        raise NotRun("give --pythae PYTHON, a Python that has it")
    threads, python = setting.threads, setting.pythae
    return Worker("pythae_training", subject.spec(), threads=threads, python=python)

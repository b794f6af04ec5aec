"""One outer iteration of the tutorial's recipe: ours, plain PyTorch, TensorFlow."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.contest import Contest, alternate
from benchmarks.finding import Finding, Target
from benchmarks.setting import Setting
from benchmarks.subject import Subject
from benchmarks.worker import NotRun, Worker

__all__ = ["measure"]

QUESTION = "One outer iteration of the tutorial's recipe (1 D step, 3 of encoder and decoder)"
AIMS = {"fp32": 2.0, "bf16": 4.0}
ORIGINAL = {"fp32": 2.0, "bf16": 5.0}
"""Times TensorFlow, which the original is written in."""


def measure(setting: Setting) -> Finding:
    """Three passes in single precision against the recipe in both precisions."""
    finding = Finding("tutorial", QUESTION)
    subject, threads = Subject(data=setting.data, recipe="tutorial"), setting.threads
    original: str | None = None
    with ExitStack() as stack:
        plain = Worker("plain_training", subject.spec(), threads=threads)
        workers = {"plain PyTorch, fp32": stack.enter_context(plain)}
        for precision in AIMS:
            worker = Worker("ours", subject.spec() | {"precision": precision}, threads=threads)
            workers[f"vaegan, {precision}"] = stack.enter_context(worker)
        try:
            worker = stack.enter_context(_tensorflow(setting, subject.batch))
            original = f"TensorFlow {worker.about['version']}, fp32"
            workers[original] = worker
        except NotRun as reason:
            finding.not_run.append(f"the same iteration in TensorFlow: {reason}")
        laps = alternate({n: w.lap for n, w in workers.items()}, setting.rounds, setting.warmup)
    contest = Contest(f"the tutorial's iteration, batch {subject.batch}", laps)
    finding.contests.append(contest)
    for base, aims in ((contest.base, AIMS), (original, ORIGINAL)):
        for precision, aim in aims.items() if base else ():
            found = contest.ratio(f"vaegan, {precision}", base).value
            finding.targets.append(Target(f"{precision}, times {base}", aim, found))
    return finding


def _tensorflow(setting: Setting, batch: int) -> Worker:
    """TensorFlow's contender; NotRun without a Python for it."""
    if setting.tensorflow is None:
        raise NotRun("give --tensorflow PYTHON, a Python that has it")
    spec = {"batch": batch}
    python, threads = setting.tensorflow, setting.threads
    return Worker("tensorflow_training", spec, threads=threads, python=python)

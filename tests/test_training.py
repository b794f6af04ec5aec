"""Runs in directories: what they write, and what is left when they are stopped, broken or full."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vaegan import checkpoint, training
from vaegan.cli import main
from vaegan.errors import ConfigError, RunError, TrainingDiverged
from vaegan.films import frame_steps, frames, is_frame
from vaegan.model import Model
from vaegan.ranks import Ranks
from vaegan.rundir import RunDirectory
from vaegan.settings import Budget
from vaegan.training import is_logged, train, trainer_for


@pytest.fixture
def start(configure, data_of, tmp_path):
    """Return the function that trains `config` in tmp_path/name."""

    def started(name="run", steps=4, *, config=None, **options):
        config = configure() if config is None else config
        run = RunDirectory(tmp_path / name)
        return run, train(run, config, data_of(config), Budget(steps=steps), **options)

    return started


class Stopper:
    """A watcher that raises a real signal, or an error, after a step."""

    def __init__(self, step, action):
        self.step, self.action, self.seen = step, action, []

    def started(self, trainer, share):
        self.seen.append(("started", trainer.progress.step, share))

    def stepped(self, trainer, share, row):
        self.seen.append(("stepped", trainer.progress.step, share))
        if trainer.progress.step == self.step:
            self.action()

    def framed(self, trainer):
        self.seen.append(("framed", trainer.progress.step, None))


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


class Crash(Exception):
    pass


def crash():
    raise Crash


# ── what is written ──────────────────────────────────────────────────────────────────────────────


def test_a_run_directory_describes_itself(start):
    run, outcome = start(steps=12)
    assert {p.name for p in run.path.iterdir()} == {
        *(".lock", "config.json", "model.safetensors", "checkpoints", "stats.jsonl", "films")
    }
    assert [p.name for p in run.checkpoints.iterdir()] == ["step-00000012"]
    assert (outcome.step, outcome.steps_here, outcome.interrupted_by) == (12, 12, 0)
    assert outcome.seconds_per_step > 0
    assert outcome.images_per_second == pytest.approx(8 / outcome.seconds_per_step)
    frames = sorted(int(p.stem.removeprefix("step-")) for p in run.film_weights.iterdir())
    assert frames == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12]
    assert not list(run.path.rglob("*.tmp"))


def test_stats_hold_one_object_a_line(start):
    run, _ = start(steps=25)
    lines = run.stats.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [*range(1, 11), 20]
    for row in rows:
        assert row["images_seen"] == 8 * row["step"]
        assert row["images_per_second"] == pytest.approx(8 / row["seconds_per_step"])
        assert {"kl", "similarity", "gan", "encoder_loss", "decoder_gradient"} <= set(row)
        assert (row["encoder_steps"], row["discriminator_steps"]) == (1, 1)
    assert rows[-1]["seconds"] >= rows[0]["seconds"]


def test_the_model_in_the_directory_is_the_averaged_one(start, configure, data_of):
    run, _ = start(steps=3)
    model = Model.from_pretrained(run.path)
    trainer = trainer_for(configure(), data_of(configure()))
    for step in range(3):
        trainer.step(step / 3)
    average = trainer.average.model.state_dict()
    assert all(torch.equal(t, average[name]) for name, t in model.state_dict().items())
    raw = trainer.model.state_dict()
    assert not all(torch.equal(t, raw[name]) for name, t in model.state_dict().items())


def test_film_weights_are_the_averaged_decoder_in_half_precision(start):
    run, _ = start(steps=3)
    model = Model.from_pretrained(run.path)
    own = {name: t.clone() for name, t in model.decoder.state_dict().items()}
    seen = {}
    for step, snapshot in frames(run, model):
        seen[step] = {name: t.clone() for name, t in snapshot.decoder.state_dict().items()}
    assert list(seen) == frame_steps(run) == [0, 1, 2, 3]
    assert all(torch.equal(seen[3][name], t.half().float()) for name, t in own.items())
    assert not all(torch.equal(seen[0][name], seen[3][name]) for name in own)
    # The model lends its decoder and gets it back.
    assert all(torch.equal(t, own[name]) for name, t in model.decoder.state_dict().items())


def test_which_steps_are_logged_and_framed():
    assert [s for s in range(1, 41) if is_logged(s)] == [*range(1, 11), 20, 30, 40]
    framed = [s for s in range(65) if is_frame(s)]
    assert framed == [*(0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)]
    assert sum(is_frame(s) for s in range(100_001)) < 70


def test_watchers_see_the_run_go_by(start):
    watcher = Stopper(-1, crash)
    start(steps=4, watchers=[watcher])
    assert watcher.seen[0] == ("started", 0, 0.0)
    assert [share for kind, _, share in watcher.seen if kind == "stepped"] == [0.25, 0.5, 0.75, 1]
    assert [step for kind, step, _ in watcher.seen if kind == "framed"] == [1, 2, 3, 4]


# ── again, and further ───────────────────────────────────────────────────────────────────────────


def files(run):
    return {
        str(p.relative_to(run.path)): p.read_bytes()
        for p in run.path.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def without_clock(run):
    return [{k: v for k, v in row.items() if "second" not in k} for row in run.rows()]


def test_a_finished_run_has_nothing_to_do(start):
    run, _ = start(steps=3)
    before = files(run)
    again, outcome = start(steps=3)
    assert (outcome.step, outcome.steps_here) == (3, 0)
    assert files(again) == before
    _, outcome = start(steps=2)
    assert (outcome.step, outcome.steps_here) == (3, 0)
    assert files(again) == before


def test_a_larger_number_of_steps_goes_on(start, configure):
    config = configure(optimiser__decay="constant")  # no rate depends on the budget
    run, _ = start("twice", steps=3, config=config)
    _, outcome = start("twice", steps=7, config=config)
    assert (outcome.step, outcome.steps_here) == (7, 4)
    once, _ = start("once", steps=7, config=config)
    assert run.weights.read_bytes() == once.weights.read_bytes()
    assert without_clock(run) == without_clock(once)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_call_goes_on(start, number):
    unbroken, _ = start("unbroken", steps=6)
    stopper = Stopper(2, lambda: os.kill(os.getpid(), number))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run, outcome = start("broken", steps=6, watchers=[stopper])
    assert (outcome.step, outcome.interrupted_by) == (2, number)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert checkpoint.latest(run.checkpoints).name == "step-00000002"
    Model.from_pretrained(run.path)
    _, outcome = start("broken", steps=6)
    assert (outcome.step, outcome.steps_here, outcome.interrupted_by) == (6, 4, 0)
    assert run.weights.read_bytes() == unbroken.weights.read_bytes()
    assert without_clock(run) == without_clock(unbroken)
    ours, theirs = (checkpoint.load(checkpoint.latest(r.checkpoints))[0] for r in (run, unbroken))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_second_signal_leaves_at_once(start):
    def twice():
        interrupt()
        interrupt()

    # A shell's background job starts with SIGINT ignored, and tests may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        start(steps=6, watchers=[Stopper(2, twice)])
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_crash_loses_what_was_not_saved_and_nothing_else(start, monkeypatch, at):
    unbroken, _ = start("unbroken", steps=6)
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)  # after every step
    with pytest.raises(Crash):
        start("broken", steps=6, watchers=[Stopper(at, crash)])
    monkeypatch.undo()
    run, outcome = start("broken", steps=6)
    assert outcome.steps_here == 6 - (at - 1)
    assert run.weights.read_bytes() == unbroken.weights.read_bytes()
    assert without_clock(run) == without_clock(unbroken)
    assert {p.name for p in run.film_weights.iterdir()} == {
        p.name for p in unbroken.film_weights.iterdir()
    }


def test_a_crash_before_the_first_checkpoint_starts_over(start):
    unbroken, _ = start("unbroken", steps=4)
    with pytest.raises(Crash):
        start("broken", steps=4, watchers=[Stopper(2, crash)])
    run, outcome = start("broken", steps=4)
    assert outcome.steps_here == 4
    assert run.weights.read_bytes() == unbroken.weights.read_bytes()
    assert without_clock(run) == without_clock(unbroken)


@pytest.mark.parametrize("failing", ["model", "checkpoint"])
def test_a_crash_between_the_last_two_writes_leaves_no_stale_model(start, monkeypatch, failing):
    unbroken, _ = start("unbroken", steps=4)
    write = training.write_tensors

    def written(path, tensors):
        if path.name == "model.safetensors" and failing == "model":
            raise Crash
        write(path, tensors)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(training, "write_tensors", written)
        if failing == "checkpoint":
            patch.setattr(checkpoint, "save", lambda *_: crash())
        start("broken", steps=4)
    run, _ = start("broken", steps=4)
    assert run.weights.read_bytes() == unbroken.weights.read_bytes()


def test_new_starts_over(start):
    run, _ = start(steps=5)
    _, outcome = start(steps=2, new=True)
    assert (outcome.step, outcome.steps_here) == (2, 2)
    assert [row["step"] for row in run.rows()] == [1, 2]
    assert [p.name for p in run.checkpoints.iterdir()] == ["step-00000002"]
    assert len(list(run.film_weights.iterdir())) == 3


def test_new_removes_nothing_where_it_cannot_start(start):
    run, _ = start(steps=2)
    before = files(run)
    with pytest.raises(ConfigError, match="cannot be divided among 3 processes"):
        start(new=True, ranks=Ranks(0, 3))
    assert files(run) == before


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


def test_another_system_is_refused_and_changes_nothing(start, configure):
    run, _ = start(steps=2)
    before = files(run)
    with pytest.raises(RunError, match=r"holds another run: .*model\.system is cvae-gan there"):
        start(steps=2, config=configure("cvae"))
    assert files(run) == before


def test_a_directory_in_use_is_refused_and_nothing_is_written(start):
    run, _ = start(steps=2)
    before = files(run)
    with run.locked(), pytest.raises(RunError, match="is being trained by process"):
        start(steps=4)
    assert files(run) == before


def test_a_damaged_checkpoint_gives_way_to_the_one_before(start, configure):
    config = configure(optimiser__decay="constant")
    run, _ = start("damaged", steps=2, config=config)
    start("damaged", steps=4, config=config)
    assert len(list(run.checkpoints.iterdir())) == 2
    state = run.checkpoints / "step-00000004" / "state.safetensors"
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    _, outcome = start("damaged", steps=5, config=config)
    assert outcome.steps_here == 3  # from step 2
    once, _ = start("once", steps=5, config=config)
    assert run.weights.read_bytes() == once.weights.read_bytes()
    assert without_clock(run) == without_clock(once)


def test_divergence_leaves_the_last_checkpoint(start, monkeypatch):
    run, _ = start(steps=2)
    before = files(run)

    def poison(self, *_):
        next(self.model.decoder.parameters()).data.fill_(float("nan"))

    stopper = Stopper(3, crash)
    stopper.action = lambda: None
    stopper.started = lambda trainer, share: poison(trainer)
    with pytest.raises(TrainingDiverged, match="at step 3"):
        start(steps=5, watchers=[stopper])
    after = files(run)
    assert after == before
    _, outcome = start(steps=3)
    assert outcome.steps_here == 1


def test_a_minutes_budget_ends(start, configure, data_of, tmp_path):
    config = configure()
    run = RunDirectory(tmp_path / "timed")
    outcome = train(run, config, data_of(config), Budget(minutes=0.2 / 60))
    numbers = checkpoint.load(checkpoint.latest(run.checkpoints))[1]
    assert 0.2 <= numbers["seconds"] < 5
    assert outcome.steps_here == numbers["step"] >= 1


# ── real processes ───────────────────────────────────────────────────────────────────────────────

COMMAND = [
    *("train", "--data", "digits", "--recipe", "dense", "--batch", "4", "--threads", "1"),
    *("--device", "cpu", "--precision", "fp32", "--set", "optimiser.decay=constant"),
]


def vaegan(*arguments, prelude="", **options):
    """Start `python -m vaegan ...`; `prelude` is run before it in the same process."""
    program = f"{prelude}\nfrom vaegan.cli import main\nmain()"
    command = [sys.executable, "-m", "vaegan"] if not prelude else [sys.executable, "-c", program]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def inside(*arguments) -> int:
    """Run the command in this process; its exit code."""
    with pytest.raises(SystemExit) as done:
        main([*map(str, arguments)])
    return int(done.value.code or 0)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> RunDirectory:
    """A run of 120 steps that nothing interrupted."""
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "unbroken")
    assert inside(*COMMAND, "--steps", "120", "--outdir", run.path) == 0
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_real_signal_to_a_real_process(tmp_path, unbroken, number, code):
    arguments = [*COMMAND, "--steps", "120"]
    run = RunDirectory(tmp_path / "broken")
    process = vaegan(*arguments, "--outdir", run.path)
    deadline = time.monotonic() + 120
    while len(run.rows()) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "stopped and saved" in err
    _, numbers = checkpoint.load(checkpoint.latest(run.checkpoints))
    assert 10 <= numbers["step"] < 120

    resumed = vaegan(*arguments, "--outdir", run.path)
    out, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    assert f"resuming at step {numbers['step']}" in err
    assert out == f"{run.weights}\n"
    assert run.weights.read_bytes() == unbroken.weights.read_bytes()
    assert without_clock(run) == without_clock(unbroken)


@pytest.mark.slow
def test_kill_nine_loses_nothing_that_was_saved(tmp_path, unbroken):
    """The kernel frees the lock of a killed process, and the next one goes on."""
    arguments = [*COMMAND, "--steps", "120"]
    prelude = "import vaegan.training; vaegan.training.SAVE_EVERY_SECONDS = 0.05"
    run = RunDirectory(tmp_path / "run")
    reached = 0
    for _ in range(3):
        process = vaegan(*arguments, "--outdir", run.path, prelude=prelude)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            saved = sorted(run.checkpoints.glob("step-*"))
            if saved and int(saved[-1].name[5:]) > reached:
                break
            time.sleep(0.01)
        process.kill()
        process.communicate()
        step = int(checkpoint.latest(run.checkpoints).name[5:])
        assert step > reached
        reached = step
    assert inside(*arguments, "--outdir", run.path) == 0
    assert run.weights.read_bytes() == unbroken.weights.read_bytes()
    assert without_clock(run) == without_clock(unbroken)
    assert not list(run.path.rglob(".*.tmp"))


@pytest.mark.slow
def test_two_processes_never_share_a_directory(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.locked():
        second = vaegan(*COMMAND, "--steps", "3", "--outdir", run.path)
        _, err = second.communicate(timeout=120)
    assert second.returncode == 2
    assert err == (
        f"vaegan: {run.path} is being trained by process {os.getpid()}; wait, or choose another "
        "--outdir\n"
    )
    assert [p.name for p in run.path.iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1 << 10, 100_000, 3_000_000])
def test_a_full_disk_is_one_line_and_the_last_checkpoint_loads(tmp_path, limit):
    """Files may not grow beyond the limit: film weights, the model or the checkpoint fail."""
    run = RunDirectory(tmp_path / "run")
    assert inside(*COMMAND, "--steps", "2", "--outdir", run.path) == 0
    prelude = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({limit}, {limit}))"
    full = vaegan(*COMMAND, "--steps", "4", "--outdir", run.path, prelude=prelude)
    _, err = full.communicate(timeout=120)
    assert full.returncode == 2
    lines = [line for line in err.splitlines() if line.startswith("vaegan: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert "cannot write" in lines[0] and "File too large" in lines[0]
    assert checkpoint.latest(run.checkpoints).name == "step-00000002"
    assert not list(run.path.rglob("*.tmp"))
    Model.from_pretrained(run.path)
    assert inside(*COMMAND, "--steps", "4", "--outdir", run.path) == 0
    assert checkpoint.latest(run.checkpoints).name == "step-00000004"


def test_the_package_of_the_processes_is_the_one_under_test():
    """`python -m vaegan` must run this checkout, or the tests above test something else."""
    import vaegan as package

    found = subprocess.run(
        [sys.executable, "-c", "import vaegan; print(vaegan.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == Path(package.__file__)

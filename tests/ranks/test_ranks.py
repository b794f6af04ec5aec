"""N ranks are one process: the same weights to rounding, the same on every rank to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vaegan.errors import ConfigError
from vaegan.model import Model
from vaegan.ranks import Ranks
from vaegan.training import trainer_for

WORKER = Path(__file__).with_name("worker.py")

CASES = {
    # Halves of two kinds of image, torn ones, an equilibrium rule, projection, classifier,
    # spectral norm.
    "default": ("cvae-gan", "default", {"optimiser__warmup": 0, "schedule__margin": 0.02}),
    # Dropout, inner loops that end on costs, TensorFlow's RMSProp, sums over the batch.
    "tutorial": ("cvae-gan", "tutorial", {"schedule__discriminator_until": 0.085}),
    # Batch normalisation and its running statistics, weight decay; no labels.
    "larsen": ("vae-gan", "larsen-small", {}),
    # Means of features over the batch, shifted images, the cycle, style of classes that come once.
    "dense": (
        "cvae-gan",
        "dense",
        {
            "objective__feature_matching_weight": 1.0,
            "objective__augment": 0.2,
            "objective__cycle_weight": 1.0,
            "objective__style_weight": 1.0,
            "objective__code_style_weight": 1.0,
            "objective__reconstruction_weight": 0.5,
        },
    ),
    "denoising": ("cvae", "dense", {"objective__noise": 0.5}),
}
RULED = {"default", "tutorial"}
TOLERANCE = {"larsen": 1e-4}
"""Batch norm over 8 images makes rounding grow: 1e-15 at the first step, 1e-7 at the fiftieth."""


def launched(world: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What torchrun makes of a script or module in `world` processes, or Python alone in one."""
    start = [sys.executable]
    if world > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*start, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def said(folder: Path, *lines: str) -> list[str]:
    """What each of two ranks made of a script: the text that it gave to `say`."""
    script = folder / "script.py"
    start = ("import sys, torch", "from pathlib import Path", "from vaegan.ranks import joined")
    say = "say = lambda text: Path(sys.argv[1], str(ranks.rank)).write_text(text)"
    script.write_text("\n".join([*start, say, *lines]) + "\n")
    done = launched(2, script, folder)
    assert all((folder / str(rank)).is_file() for rank in range(2)), done.stderr
    return [(folder / str(rank)).read_text() for rank in range(2)]


@pytest.fixture(scope="module")
def cases(tmp_path_factory, configure, data_of) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for name, (system, recipe, settings) in CASES.items():
        batch = 32 if name == "default" else 8  # one image in eight is torn, on each of four ranks
        config = configure(system, recipe, batch=batch, **settings)
        data = data_of(config)
        (folder / f"{name}.json").write_text(config.model_dump_json())
        np.savez(folder / f"{name}.npz", pixels=data.train.pixels, labels=data.train.labels)
    return folder


def outcome(cases: Path, folder: Path, world: int, names: list[str]) -> Path:
    """Where `world` processes left what they made of the named cases."""
    folder.mkdir()
    done = launched(world, WORKER, cases, folder, *names)
    assert len(list(folder.glob("*.json"))) == world * len(names), done.stderr
    return folder


def state(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}-rank-{rank}.safetensors")


def rows(folder: Path, name: str, rank: int = 0):
    return json.loads((folder / f"{name}-rank-{rank}.json").read_text())


def decided(rows) -> list[tuple[float, ...]]:
    """How often each network stepped, by step."""
    return [tuple(row[key] for key in sorted(row) if key.endswith("_steps")) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("world", "names"), [(2, [*CASES]), (4, ["default"])])
def test_ranks_compute_what_one_process_does(cases, tmp_path, world, names) -> None:
    alone = outcome(cases, tmp_path / "alone", 1, names)
    many = outcome(cases, tmp_path / "many", world, names)
    for name in names:
        one, other = state(alone, name), state(many, name)
        assert one.keys() == other.keys()
        gaps = {key: float((one[key] - other[key]).abs().sum()) for key in one}
        worst = max(gaps, key=lambda key: gaps[key])
        assert gaps[worst] < TOLERANCE.get(name, 1e-9), (name, worst)
        (numbers, ours), (same, theirs) = rows(alone, name), rows(many, name)
        assert {**numbers, "seconds": 0} == {**same, "seconds": 0}
        assert ours[0] == pytest.approx(theirs[0], rel=1e-11), name
        assert decided(ours) == decided(theirs)
        assert len(set(decided(ours))) > (name in RULED)
        # Replicas are equal to the bit, and have seen the same.
        for rank in range(1, world):
            replica = state(many, name, rank)
            assert all(torch.equal(other[key], replica[key]) for key in other), (name, rank)
            assert rows(many, name, rank) == rows(many, name)


def test_each_rank_has_its_rows_of_both_kinds(configure, data_of) -> None:
    config = configure("cvae-gan", "default", batch=16)
    whole = trainer_for(config, data_of(config)).batches(3)
    parts = [trainer_for(config, data_of(config), Ranks(r, 2)).batches(3) for r in (0, 1)]
    assert torch.equal(torch.stack([part.images for part in parts], 1).flatten(0, 1), whole.images)
    assert torch.equal(torch.stack([part.labels for part in parts], 1).flatten(), whole.labels)


@pytest.mark.slow
def test_batch_norm_over_ranks_is_as_exact_as_in_one(tmp_path) -> None:
    """Of numbers far from 0, a difference of means of squares would have no digit left."""
    texts = said(
        tmp_path,
        "from vaegan.layers import look_across",
        "from vaegan.norms import BatchNorm",
        "x = 1000 + 0.1 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))",
        "with joined('cpu') as ranks:",
        "    one, many = BatchNorm(3), BatchNorm(3)",
        "    look_across(many, ranks)",
        "    gap = (many(x[ranks.rows]) - one(x)[ranks.rows]).abs().max()",
        "    kept = (many.running_var - one.running_var).abs().max()",
        "    say(f'{gap.item()} {kept.item()}')",
    )
    for text in texts:
        gap, kept = map(float, text.split())
        assert gap < 0.01 and kept < 1e-5


def test_a_batch_that_cannot_be_divided_is_refused(configure, data_of) -> None:
    config = configure("cvae-gan", "default", batch=10)
    with pytest.raises(
        ConfigError, match=r"among 2 processes: choose a multiple of 16 for --batch"
    ):
        trainer_for(config, data_of(config), Ranks(0, 2))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux")
def test_the_group_and_its_threads_end_with_the_run(tmp_path) -> None:
    """A thread of gloo that frees a tensor while the interpreter ends aborts the process."""
    texts = said(
        tmp_path,
        "def threads():",
        "    return {path.read_text() for path in Path('/proc/self/task').glob('*/comm')}",
        "with joined('cpu') as ranks:",
        "    ranks.largest(1.0)",
        "    torch.optim.RMSprop([torch.zeros(1)])  # imports all of torch",
        "    during = threads()",
        "after = threads()",
        "say(str([any('gloo' in name for name in names) for names in (during, after)]))",
    )
    assert texts == ["[True, False]"] * 2


# ── the command line ─────────────────────────────────────────────────────────────────────────────

TRAIN = ("train", "--data", "digits", "--recipe", "dense", "--no-alarms")
BATCH = ("--batch", "16")


@pytest.mark.slow
def test_a_run_goes_on_with_any_number_of_processes(tmp_path) -> None:
    steady = (*BATCH, "--precision", "fp32", "--set", "optimiser.decay=constant")
    for world, steps in ((2, 10), (1, 15), (4, 20)):
        done = launched(
            world, "-m", "vaegan", *TRAIN, *steady, "--outdir", tmp_path / "many", "--steps", steps
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(tmp_path / "many" / "model.safetensors")]
        assert f"step {steps}:" in done.stderr
    launched(1, "-m", "vaegan", *TRAIN, *steady, "--outdir", tmp_path / "one", "--steps", 20)
    one, many = (Model.from_pretrained(tmp_path / name).state_dict() for name in ("one", "many"))
    gap = max(float((one[key] - many[key]).abs().max()) for key in one if one[key].numel())
    assert gap < 1e-4
    lines = (tmp_path / "many" / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(1, 11), 20]


@pytest.mark.slow
def test_what_is_wrong_is_said_and_nobody_waits(tmp_path) -> None:
    done = launched(2, "-m", "vaegan", *TRAIN, "--outdir", tmp_path, "--batch", "18")
    assert done.returncode != 0
    assert "vaegan: batch (=18) cannot be divided among 2 processes" in done.stderr
    assert "/vaegan/" not in done.stderr  # no traceback of ours, on any rank


def signalled(run: Path, rank: int, name: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a training run of two ranks when one is sent a signal at its first row."""
    script = run.parent / "signalled.py"
    script.write_text(
        "import os, pathlib, signal, sys, threading, time\n"
        "from vaegan.cli import main\n"
        "def send():\n"
        f"    stats = pathlib.Path({str(run / 'stats.jsonl')!r})\n"
        "    while not (stats.exists() and stats.stat().st_size):\n"
        "        time.sleep(0.05)\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        f"if os.environ['RANK'] == '{rank}':\n"
        "    threading.Thread(target=send, daemon=True).start()\n"
        "main(sys.argv[1:])\n"
    )
    return launched(2, script, *TRAIN, *BATCH, "--outdir", run, "--minutes", "4")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_and_saves(tmp_path, rank) -> None:
    run = tmp_path / "run"
    done = signalled(run, rank, "SIGTERM")
    assert "stopped and saved; the same command goes on from here" in done.stderr, done.stderr
    assert "/vaegan/" not in done.stderr
    steps = {path.name for path in (run / "checkpoints").glob("step-*")}
    last = json.loads((run / "stats.jsonl").read_text().splitlines()[-1])
    assert any(int(name.removeprefix("step-")) >= last["step"] for name in steps)


@pytest.mark.slow
def test_a_lost_rank_is_said_in_one_line(tmp_path) -> None:
    done = signalled(tmp_path / "run", 1, "SIGKILL")
    assert done.returncode
    assert "vaegan: another process was lost; the same command goes on from" in done.stderr
    assert "/vaegan/" not in done.stderr  # no traceback but torchrun's own

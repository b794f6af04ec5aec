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
    # Halves of two kinds of image, an equilibrium rule, projection, classifier, spectral norm.
    "default": ("cvae-gan", "default", {"optimiser__warmup": 0, "schedule__margin": 0.02}),
    # Dropout, inner loops that end on costs, TensorFlow's RMSProp, sums over the batch.
    "tutorial": ("cvae-gan", "tutorial", {"schedule__discriminator_until": 0.085}),
    # Batch normalisation and its running statistics, weight decay; no labels.
    "larsen": ("vae-gan", "larsen-small", {"schedule__margin": 0.1}),
    # Means of features over the batch, shifted images, the cycle.
    "dense": (
        "cvae-gan",
        "dense",
        {
            "objective__feature_matching_weight": 1.0,
            "objective__augment": 0.2,
            "objective__cycle_weight": 1.0,
            "objective__reconstruction_weight": 0.5,
        },
    ),
    "denoising": ("cvae", "dense", {"objective__noise": 0.5}),
}
RULED = {"default", "tutorial", "larsen"}


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


@pytest.fixture(scope="module")
def cases(tmp_path_factory, configure, data_of) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for name, (system, recipe, settings) in CASES.items():
        config = configure(system, recipe, batch=8, **settings)
        data = data_of(config)
        (folder / f"{name}.json").write_text(config.model_dump_json())
        np.savez(folder / f"{name}.npz", pixels=data.train.pixels, labels=data.train.labels)
    return folder


@pytest.fixture(scope="module")
def outcome(cases, tmp_path_factory):
    """Return the function that trains all cases in so many processes, once."""
    known: dict[tuple[int, bool], Path] = {}

    def of(world: int, *, double: bool) -> Path:
        if (world, double) not in known:
            folder = tmp_path_factory.mktemp(f"world-{world}-{double}")
            done = launched(world, WORKER, cases, folder, *["--double"] * double)
            assert len(list(folder.glob("*.json"))) == world * len(CASES), done.stderr
            known[world, double] = folder
        return known[world, double]

    return of


def state(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}-rank-{rank}.safetensors")


def rows(folder: Path, name: str, rank: int = 0):
    return json.loads((folder / f"{name}-rank-{rank}.json").read_text())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_compute_what_one_process_does(outcome, name, world) -> None:
    alone, many = outcome(1, double=True), outcome(world, double=True)
    one, other = state(alone, name), state(many, name)
    assert one.keys() == other.keys()
    worst = max(float((one[key] - other[key]).abs().max()) for key in one if one[key].numel())
    assert worst < 1e-9
    (numbers, ours), (same, theirs) = rows(alone, name), rows(many, name)
    assert {**numbers, "seconds": 0} == {**same, "seconds": 0}
    for here, there in zip(ours, theirs):
        assert here == pytest.approx(there, rel=1e-7, abs=1e-9)
    if name in RULED:  # the schedule did decide something
        steps = {(row["decoder_steps"], row["discriminator_steps"]) for row in ours}
        assert len(steps) > 1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas_are_equal_to_the_bit(outcome, name, world) -> None:
    folder = outcome(world, double=True)
    first = state(folder, name)
    for rank in range(1, world):
        other = state(folder, name, rank)
        assert all(torch.equal(first[key], other[key]) for key in first)
        assert rows(folder, name, rank) == rows(folder, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_in_single_precision_they_differ_by_rounding(outcome, name) -> None:
    one, other = (state(outcome(world, double=False), name) for world in (1, 2))
    weights = [key for key in one if key.startswith("model/")]
    gap = torch.cat([(one[key] - other[key]).flatten() for key in weights]).norm()
    size = torch.cat([one[key].flatten() for key in weights]).norm()
    assert gap / size < 1e-3


def test_each_rank_has_its_rows_of_both_kinds(configure, data_of) -> None:
    config = configure("cvae-gan", "default", batch=8)
    whole = trainer_for(config, data_of(config)).batches(3)
    parts = [trainer_for(config, data_of(config), "cpu", Ranks(r, 2)).batches(3) for r in (0, 1)]
    assert torch.equal(torch.stack([part.images for part in parts], 1).flatten(0, 1), whole.images)
    assert torch.equal(torch.stack([part.labels for part in parts], 1).flatten(), whole.labels)


def test_a_batch_that_cannot_be_divided_is_refused(configure, data_of) -> None:
    config = configure("cvae-gan", "default", batch=10)
    with pytest.raises(ConfigError, match=r"among 2 processes: choose a multiple of 4 for --batch"):
        trainer_for(config, data_of(config), "cpu", Ranks(0, 2))


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
    assert "Traceback (most recent call last)" not in done.stderr.split("torch.distributed")[0]

"""`vaegan train` again: it goes on, has nothing to do, starts over, or says why it will not."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaegan.config import SYSTEMS, family_of
from vaegan.rundir import RunDirectory

SMALL = ["--recipe", "dense", "--batch", "8", "--device", "cpu"]
TINY = ["--data", "digits", *SMALL]
CONSTANT = ["--set", "optimiser.decay=constant"]


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but the lock and TensorBoard's events, which bear the time."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock" and "tensorboard" not in path.parts
    }


def history(run: Path) -> list[dict[str, float]]:
    """The rows of the stats, the clock left out."""
    rows = RunDirectory(run).rows()
    return [{name: row[name] for name in row if "second" not in name} for row in rows]


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


# ── what a run writes ────────────────────────────────────────────────────────────────────────

COUNTS = {"step", "images_seen", "seconds", "seconds_per_step", "images_per_second"}
ENCODER = {"encoder_steps", "encoder_loss", "encoder_gradient"}
DECODER = {"decoder_steps", "decoder_loss", "decoder_gradient"}
ADVERSARY = {"discriminator_steps", "discriminator_loss", "discriminator_gradient", "gan"}
ADVERSARY |= {"fooling", "real_cost", "fake_cost"}
ROWS = {
    "ae": COUNTS | ENCODER | DECODER | {"pixel"},
    "vae": COUNTS | ENCODER | DECODER | {"pixel", "kl"},
    "gan": COUNTS | DECODER | ADVERSARY,
    "vae-gan": COUNTS | ENCODER | DECODER | ADVERSARY | {"kl", "similarity"},
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_stats_name_every_loss_of_the_system(trained: Any, system: str) -> None:
    run = trained(system)
    lines = (run / "stats.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert ROWS[family_of(system)] - row.keys() == set()
        assert all(np.isfinite(value) for value in row.values())
        assert row["images_seen"] == 8 * row["step"]
        assert row["seconds_per_step"] > 0
        assert row["images_per_second"] * row["seconds_per_step"] == pytest.approx(8)
    # A system has no column of a network or a term that it lacks.
    absent = ROWS["vae-gan"] | {"pixel"}
    absent -= ROWS[family_of(system)] | {"pixel"}
    assert absent & rows[0].keys() == set()
    frames = sorted(path.name for path in (run / "films" / "weights").iterdir())
    assert frames == [f"step-{step:08d}.safetensors" for step in range(4)]


# ── again ────────────────────────────────────────────────────────────────────────────────────


def test_a_finished_run_says_so(works: Any, tmp_path: Path) -> None:
    command = ["train", *TINY, "--steps", 3, "--outdir", tmp_path / "run"]
    first = works(*command)
    before = contents(tmp_path / "run")
    again = works(*command)
    assert again.out == first.out
    assert f"nothing to do: {tmp_path / 'run'} has 3 steps already" in again.err
    assert "larger budget" in again.err
    assert contents(tmp_path / "run") == before


def test_a_larger_budget_goes_on(works: Any, tmp_path: Path) -> None:
    command = ["train", *TINY, *CONSTANT]
    for steps in (3, 5, 9):
        ended = works(*command, "--steps", steps, "--outdir", tmp_path / "parts")
    assert "resuming at step 5" in ended.err
    works(*command, "--steps", 9, "--outdir", tmp_path / "whole")
    parts, whole = contents(tmp_path / "parts"), contents(tmp_path / "whole")
    assert parts["model.safetensors"] == whole["model.safetensors"]
    state = "checkpoints/step-00000009/state.safetensors"
    assert parts[state] == whole[state]
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    assert checkpoints(tmp_path / "parts") == ["step-00000005", "step-00000009"]
    films = {name for name in whole if name.startswith("films")}
    assert len(films) == 9 and all(parts[name] == whole[name] for name in films)


def test_a_run_goes_on_in_another_place(works: Any, tmp_path: Path) -> None:
    command = ["train", *TINY, *CONSTANT]
    works(*command, "--steps", 4, "--outdir", tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    works(*command, "--steps", 8, "--outdir", tmp_path / "there")
    works(*command, "--steps", 8, "--outdir", tmp_path / "whole")
    moved, whole = (tmp_path / name / "model.safetensors" for name in ("there", "whole"))
    assert moved.read_bytes() == whole.read_bytes()


def test_new_starts_over(works: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    works("train", *TINY, "--steps", 5, "--outdir", run)
    works("sample", run)
    (run / "notes.txt").write_text("mine")
    ended = works("train", *TINY, "--system", "vae", "--steps", 2, "--outdir", run, "--new")
    assert "resuming" not in ended.err
    assert checkpoints(run) == ["step-00000002"]
    assert [row["step"] for row in history(run)] == [1, 2]
    assert json.loads((run / "config.json").read_text())["model"]["system"] == "vae"
    assert not list(run.glob("figures/*")) and (run / "notes.txt").read_text() == "mine"


def test_epochs_count_from_the_beginning(works: Any, tmp_path: Path) -> None:
    # 1,197 images, 8 a step: 0.02 epochs are 3 steps, 0.04 are 6.
    command = ["train", *TINY, *CONSTANT, "--outdir", tmp_path / "run"]
    for epochs, last in ((0.02, 3), (0.04, 6)):
        works(*command, "--epochs", epochs)
        assert history(tmp_path / "run")[-1]["step"] == last


# ── damage ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_damaged_checkpoint(works: Any, vaegan: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["train", *TINY, *CONSTANT, "--outdir", run]
    for steps in (2, 4):
        works(*command, "--steps", steps)
    state = run / "checkpoints" / "step-00000004" / "state.safetensors"
    whole = state.read_bytes()
    state.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ended = works(*command, "--steps", 6)
    assert "resuming at step 2" in ended.err
    works("train", *TINY, *CONSTANT, "--steps", 6, "--outdir", tmp_path / "whole")
    assert history(run) == history(tmp_path / "whole")
    weights = (run / "model.safetensors").read_bytes()
    assert weights == (tmp_path / "whole" / "model.safetensors").read_bytes()

    # With none that is whole there is nothing to go on from, and nothing is touched.
    for path in (run / "checkpoints").iterdir():
        (path / "state.safetensors").write_text("{}")
    before = contents(run)
    ended = vaegan(*command, "--steps", 8)
    assert ended.code == 2 and ended.out == ""
    assert ended.err.startswith("vaegan: no checkpoint is whole: ")
    assert "state.safetensors is damaged; start over with --new" in ended.err
    assert len(ended.err.splitlines()) == 1 and contents(run) == before
    works("sample", run)
    works(*command, "--steps", 1, "--new")


def test_divergence_stops_with_a_remedy(works: Any, vaegan: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["train", *TINY, *CONSTANT, "--system", "vae", "--outdir", run]
    for network in ("encoder", "decoder"):
        command += ["--set", f"optimiser.{network}_lr=10"]
    command += ["--set", "optimiser.muon=[]"]  # whose steps have a size: it does not diverge
    works(*command, "--steps", 1)
    before = contents(run)
    ended = vaegan(*command, "--steps", 500)
    assert ended.code == 2 and ended.out == ""
    last = ended.err.splitlines()[-1]
    assert last.startswith(("vaegan: the ", "vaegan: encoder_loss is", "vaegan: decoder_loss is"))
    assert "at step" in last and "lower the learning rate (--set optimiser." in last
    assert "Traceback" not in ended.err
    # Weights and checkpoint are what they were before, and finite.
    after = contents(run)
    assert checkpoints(run) == ["step-00000001"]
    assert all(after[name] == before[name] for name in before if name.startswith("checkpoints"))
    assert after["model.safetensors"] == before["model.safetensors"]
    works("sample", run)


# ── other data ───────────────────────────────────────────────────────────────────────────────


def idx_folder(folder: Path, seed: int, suffix: str = "") -> Path:
    """Four IDX files of 40 + 20 images of 12 x 12, 4 classes."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    for part, count in (("train", 40), ("t10k", 20)):
        images = draw.integers(0, 256, (count, 12, 12), np.uint8)
        labels = (np.arange(count) % 4).astype(np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            content = header + values.tobytes()
            path = folder / f"{part}-{kind}-ubyte{suffix}"
            path.write_bytes(gzip.compress(content) if suffix else content)
    return folder


def test_other_images_are_another_run(works: Any, vaegan: Any, tmp_path: Path) -> None:
    one, other = idx_folder(tmp_path / "one", 1), idx_folder(tmp_path / "other", 2)
    again = idx_folder(tmp_path / "again", 1, ".gz")
    run = tmp_path / "run"
    command = ["train", *SMALL, "--steps", 2, "--outdir", run]
    works(*command, "--data", one)
    before = contents(run)
    for data in (other, "digits"):
        ended = vaegan(*command, "--data", data)
        assert (ended.code, ended.out) == (2, "")
        assert "holds another run" in ended.err and len(ended.err.splitlines()) == 1
        assert "data_fingerprint is " in ended.err or "model.image_size" in ended.err
    # The same images elsewhere are the same run.
    assert "nothing to do" in works(*command, "--data", again).err
    # Images that changed where they lay are others.
    (one / "t10k-labels-idx1-ubyte").write_bytes((other / "train-labels-idx1-ubyte").read_bytes())
    shutil.copy(other / "train-images-idx3-ubyte", one / "t10k-images-idx3-ubyte")
    ended = vaegan(*command, "--data", one)
    assert ended.code == 2 and "data_fingerprint is " in ended.err
    assert contents(run) == before


# ── real processes ───────────────────────────────────────────────────────────────────────────


def start(*arguments: object) -> subprocess.Popen[str]:
    """`python -m vaegan train ARGUMENTS`, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "vaegan", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_ctrl_c_and_the_same_command_again_equal_an_unbroken_run(tmp_path: Path) -> None:
    """Of our own recipe, whose learning rates fall over the budget, as they are by default."""
    command = ["--data", "digits", "--batch", 16, "--steps", 24, "--device", "cpu", "--threads", 1]
    unbroken = start(*command, "--outdir", tmp_path / "unbroken")
    assert unbroken.communicate(timeout=300)[0] and unbroken.returncode == 0

    run = tmp_path / "broken"
    broken, deadline = start(*command, "--outdir", run), time.monotonic() + 300
    while len(RunDirectory(run).rows()) < 8 and time.monotonic() < deadline:
        time.sleep(0.005)
    broken.send_signal(signal.SIGINT)
    out, err = broken.communicate(timeout=60)
    assert broken.returncode == 130, err
    assert out == f"{run / 'model.safetensors'}\n"
    assert err.endswith("stopped and saved; the same command goes on from here\n")
    (saved,) = checkpoints(run)
    assert "step-00000008" <= saved < "step-00000024"

    resumed = start(*command, "--outdir", run)
    _, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and f"resuming at step {int(saved[5:])}\n" in err
    ours, theirs = contents(run), contents(tmp_path / "unbroken")
    assert ours["model.safetensors"] == theirs["model.safetensors"]
    state = "checkpoints/step-00000024/state.safetensors"
    assert ours[state] == theirs[state]
    assert history(run) == history(tmp_path / "unbroken")
    assert ours.keys() - theirs.keys() == {
        f"checkpoints/{saved}/{name}"
        for name in ("state.safetensors", "state.json", "manifest.json")
    }
    films = [name for name in theirs if name.startswith("films")]
    assert all(ours[name] == theirs[name] for name in films)


@pytest.mark.slow
def test_of_three_processes_one_trains(tmp_path: Path) -> None:
    run = tmp_path / "run"
    # The winner trains until the others are gone.
    processes = [start(*TINY, "--minutes", 10, "--outdir", run) for _ in range(3)]
    deadline = time.monotonic() + 120
    while sum(p.poll() is None for p in processes) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    (winner,) = [process for process in processes if process.poll() is None]
    for process in processes:
        if process is not winner:
            out, err = process.communicate()
            assert (process.returncode, out) == (2, "")
            assert err == (
                f"vaegan: {run} is being trained by process {winner.pid}; wait, or choose "
                "another --outdir\n"
            )
    while not RunDirectory(run).rows() and time.monotonic() < deadline:
        time.sleep(0.02)
    winner.send_signal(signal.SIGTERM)
    _, err = winner.communicate(timeout=60)
    assert winner.returncode == 143 and "stopped and saved" in err
    assert len(checkpoints(run)) == 1

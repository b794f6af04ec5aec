"""`vaegan compare` on tiny runs: trains, measures, resumes, skips, and takes finished runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vaegan.metrics import diversity
from vaegan.metrics.classifier import TrainingSettings
from vaegan.metrics.judge import Judge

QUICK = TrainingSettings(width=8, num_features=16, steps=60, batch=64)
COMMON = ("--recipe", "dense", "--steps", 3, "--n", 60, "--set", "batch=8")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A judge that trains in a second, kept for all tests here, and classifiers that do too."""
    trained_on, cache = Judge.trained_on, tmp_path_factory.getbasetemp() / "quick-judges"

    def quick(dataset: Any, _: Any = None, progress: Any = None) -> Judge:
        return trained_on(dataset, cache, progress, QUICK)

    monkeypatch.setattr(Judge, "trained_on", staticmethod(quick))
    monkeypatch.setattr(diversity, "CAS_SETTINGS", QUICK)


def results(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    return tree


def times(folder: Path) -> dict[str, tuple[int, int]]:
    """When each run's model and metrics were written."""
    return {
        run.parent.name: (run.stat().st_mtime_ns, (run.parent / "metrics.json").stat().st_mtime_ns)
        for run in folder.glob("*/model.safetensors")
    }


def test_the_ladder_is_trained_measured_and_drawn_once(works: Any, tmp_path: Path) -> None:
    common = ("compare", *COMMON, "--outdir", tmp_path)
    asked = (*common, "--systems", "ae,cgan,cvae-gan", "--latent-dims", "2")
    ended = works(*asked)
    entries = results(tmp_path)["entries"]
    assert [entry["name"] for entry in entries] == ["ae 2", "cgan 2", "cvae-gan 2"]
    assert [entry["trained"][0]["step"] for entry in entries] == [3, 3, 3]
    for name, has in (("reconstruction_mse", (1, 0, 1)), ("prior_label_accuracy", (0, 1, 1))):
        assert [name in entry["values"] for entry in entries] == [bool(h) for h in has]
    # One picture: originals, 2 reconstructions, 2 samples, the source and 1 transfer.
    with Image.open(tmp_path / "compare.png") as picture:
        picture.verify()
    # The table: a row a measure, a column an entry, an empty cell where there is nothing.
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line[:1] == "|"]
    assert rows[0] == "|  |  | ae 2 | cgan 2 | cvae-gan 2 | real |"
    assert {row.count("|") for row in rows} == {7}
    (mse,) = (row for row in rows if row.startswith("|   MSE"))
    cells = [cell.strip() for cell in mse.split("|")]
    value = entries[0]["values"]["reconstruction_mse"][0]
    assert cells[3].startswith(f"{value:.4f}".lstrip("0")) and cells[4] == ""
    assert "every run had 3 steps of training" in ended.out and "ae 2" in ended.out
    assert "ae 2, cgan 2: transfer" not in ended.out  # for different reasons
    assert "cgan 2: reconstructions: it has no encoder" in ended.out

    # The same command does nothing twice; a larger ladder trains only what is new.
    before = times(tmp_path)
    works(*asked)
    assert times(tmp_path) == before
    works(*common, "--systems", "ae", "--latent-dims", "2,3")
    after = times(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"ae-3-seed0"}
    assert [entry["name"] for entry in results(tmp_path)["entries"]] == ["ae 2", "ae 3"]


def test_seeds_become_means_with_intervals(works: Any, tmp_path: Path) -> None:
    works("compare", *COMMON, "--systems", "vae", "--seeds", "0,1", "--outdir", tmp_path)
    (entry,) = results(tmp_path)["entries"]
    assert entry["seeds"] == [0, 1] and len(entry["runs"]) == 2
    files = [json.loads((Path(run) / "metrics.json").read_text()) for run in entry["runs"]]
    mean, low, high = entry["values"]["latents_kl"]
    kls = [tree["latents_kl"] for tree in files]
    assert mean == pytest.approx(sum(kls) / 2)
    # Student's t with one degree of freedom: 12.706 standard errors.
    assert (high - low) / 2 == pytest.approx(12.706 * abs(kls[0] - kls[1]) / 2, rel=1e-3)
    assert " ± " in (tmp_path / "table.md").read_text()


def test_finished_runs_are_taken_as_they_are(works: Any, trained: Any, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(trained(s), tmp_path / s)) for s in ("cvae", "cvae-gan")]
    weights = [(run / "model.safetensors").read_bytes() for run in runs]
    ended = works("compare", *runs, "--n", 60, "--outdir", tmp_path / "out")
    assert [e["name"] for e in results(tmp_path / "out")["entries"]] == ["cvae 8", "cvae-gan 8"]
    assert [(run / "model.safetensors").read_bytes() for run in runs] == weights
    assert all((run / "metrics.json").is_file() for run in runs)
    assert "of training" not in ended.out
    assert not (tmp_path / "out" / "budget.json").exists()


def test_refusals(vaegan: Any, works: Any, tmp_path: Path) -> None:
    for arguments, words in (
        (("--systems", "vae,vea"), "system 'vea' is unknown"),
        (("--systems", "vae,vae"), "name each once"),
        (("--latent-dims", "2,x"), "--latent-dims 2,x: expected whole numbers"),
        (("--seeds", ""), "--seeds"),
        (("--minutes", 1, "--steps", 2), "only one of --steps and --minutes"),
        (("--data", "nothing-such"), "no data set or folder"),
        ((tmp_path / "nowhere",), "does not exist"),
    ):
        ended = vaegan("compare", "--outdir", tmp_path / "out", *arguments)
        assert ended.code == 2 and words in ended.err, ended.err
    assert not (tmp_path / "out").exists()
    works("compare", *COMMON, "--systems", "ae", "--outdir", tmp_path / "out")
    ended = vaegan("compare", "--systems", "ae", "--steps", 4, "--outdir", tmp_path / "out")
    assert ended.code == 2 and "holds a comparison on another budget" in ended.err

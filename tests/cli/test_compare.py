"""`vaegan compare` on tiny runs: trains, measures, resumes, skips, and takes finished runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vaegan.cli.loading import open_run
from vaegan.cli.measuring import kept
from vaegan.errors import DataError
from vaegan.metrics.judge import Judge

pytestmark = pytest.mark.usefixtures("quickly")
TINY = ("--data", "digits", "--recipe", "dense", "--steps", 3, "--batch", 8)
COMMON = ("--recipe", "dense", "--steps", 3, "--n", 60, "--set", "batch=8")


def results(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    return tree


def times(folder: Path) -> dict[str, tuple[int, int]]:
    """When each run's model and metrics were written."""
    return {
        run.parent.name: (run.stat().st_mtime_ns, (run.parent / "metrics.json").stat().st_mtime_ns)
        for run in folder.glob("*/model.safetensors")
    }


@pytest.mark.slow
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
    # Three that differ in one number are a curve.
    assert not (tmp_path / "curve.png").exists()
    works(*common, "--systems", "ae", "--latent-dims", "2,3,4")
    with Image.open(tmp_path / "curve.png") as picture:
        picture.verify()
    works(*common, "--systems", "ae", "--latent-dims", "2,3")
    assert not (tmp_path / "curve.png").exists()


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
    table = (tmp_path / "table.md").read_text()
    assert " ± " in table and "| runs |  | 2 |  |" in table
    assert "mean of 2 runs ± half the 95 % t interval over runs" in table


def test_columns_are_settings_not_systems_alone(works: Any, trained: Any, tmp_path: Path) -> None:
    plain, heavy = shutil.copytree(trained("vae"), tmp_path / "plain"), tmp_path / "heavy"
    train = ("train", *TINY, "--system", "vae", "--outdir", heavy)
    works(*train, "--set", "objective.kl_weight=2")
    works("compare", plain, heavy, "--n", 60, "--outdir", tmp_path)
    rows = (tmp_path / "table.md").read_text().splitlines()
    assert "|  |  | vae 8 kl_weight 1 | vae 8 kl_weight 2 | real |" in rows
    for words in ("steps", "images seen", "minutes trained", "parameters"):
        (row,) = (row for row in rows if row.startswith(f"| {words} |"))
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[3] and cells[4] and not cells[5]
    assert "| steps |  | 3 | 3 |  |" in rows and "| images seen |  | 24 | 24 |  |" in rows
    assert not [row for row in rows if row.startswith("| runs |")]
    one, two = results(tmp_path)["entries"]
    assert one["settings"]["objective"]["kl_weight"] == 1
    assert one["values"]["latents_kl"] != two["values"]["latents_kl"]


def test_what_was_measured_is_taken_or_measured_again_with_a_note(
    works: Any, trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained("vae"), tmp_path / "vae"))
    file = run / "metrics.json"
    asked = ("compare", run, "--n", 60, "--outdir", tmp_path / "out")
    # Of a file with several seeds the one that is asked, and the file stays.
    works("evaluate", run, "--n", 60, "--seeds", "0,1")
    text = file.read_text()
    assert "measured again" not in works(*asked).err
    assert file.read_text() == text
    (entry,) = results(tmp_path / "out")["entries"]
    name = "reconstruction_mse"
    expected = json.loads(text)["by_seed"]["0"]
    assert entry["values"][name] == pytest.approx([expected[name], *expected["intervals"][name]])
    assert entry["interval"] == "1 run ± half the 95 % bootstrap interval over images"

    def about(**changes: Any) -> str:
        tree = json.loads(text)
        return json.dumps(tree | {"about": tree["about"] | changes})

    # Everything else is measured again.
    opened = open_run(run)
    dataset = opened.dataset()
    judge = Judge.trained_on(dataset)
    bare = json.loads(text)
    for key in ("asked_images", "extractor_digest", "trained"):
        del bare["about"][key]
    for content, words in (
        ("{", "cannot be read"),
        (json.dumps(json.loads(text) | {"latents_kl": "much"}), "cannot be read"),
        (
            json.dumps(bare),
            "is of another judge, another --n, an earlier state of the model",
        ),
        (about(extractor_digest="0" * 64), "is of another judge"),
        (about(vaegan_version="0.0.1"), "is of another vaegan"),
        (about(seeds=[1, 2]), "is of other seeds"),
        (about(trained={"step": 2}), "is of an earlier state of the model"),
    ):
        file.write_text(content)
        capsys.readouterr()
        assert kept(opened, dataset, judge, 60, 0) is None
        assert capsys.readouterr().err == f"note: {file} {words}: measured again\n"
    file.write_text("{")
    assert f"note: {file} cannot be read: measured again\n" in works(*asked).err
    assert json.loads(file.read_text())["about"]["seeds"] == [0]
    assert results(tmp_path / "out")["entries"][0]["values"] == entry["values"]


def test_the_table_is_there_before_the_picture(
    vaegan: Any, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_picture(*_: object) -> None:
        raise DataError("no picture today")

    monkeypatch.setattr("vaegan.evaluation.comparison.picture", no_picture)
    run = shutil.copytree(trained("vae"), tmp_path / "vae")
    ended = vaegan("compare", run, "--n", 60, "--outdir", tmp_path / "out")
    assert ended.code == 2 and ended.err.splitlines()[-1] == "vaegan: no picture today"
    assert "Side by side" in ended.out and "prior samples: Fréchet" in ended.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.json",
        "table.md",
    ]


def test_the_alarms_look_for_a_judge_where_cache_says(
    works: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, asked = Judge.cached, []

    def noted(dataset: Any, cache: Any = None, *rest: Any) -> Judge | None:
        asked.append(cache)
        return cached(dataset, cache, *rest)

    monkeypatch.setattr(Judge, "cached", staticmethod(noted))
    here = ("--cache", tmp_path / "judges", "--outdir", tmp_path / "out")
    works("compare", *COMMON, "--systems", "cgan", *here)
    assert asked[0] == tmp_path / "judges" and None not in asked


@pytest.mark.slow
def test_finished_runs_are_taken_as_they_are(works: Any, trained: Any, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(trained(s), tmp_path / s)) for s in ("cvae", "cvae-gan")]
    weights = [(run / "model.safetensors").read_bytes() for run in runs]
    ended = works("compare", *runs, "--n", 60, "--outdir", tmp_path / "out")
    assert [e["name"] for e in results(tmp_path / "out")["entries"]] == ["cvae 8", "cvae-gan 8"]
    assert [(run / "model.safetensors").read_bytes() for run in runs] == weights
    assert all((run / "metrics.json").is_file() for run in runs)
    assert "of training" not in ended.out
    assert not (tmp_path / "out" / "budget.json").exists()


SPARSE = ("--set", "objective.sparsity=0.1")


def test_a_setting_may_be_of_some_systems_only(works: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    works("compare", *COMMON, *SPARSE, "--systems", "ae,vae", "--outdir", out)
    assert "sparsity" in json.loads((out / "ae-8-seed0/stats.jsonl").read_text().splitlines()[0])


def test_refusals(vaegan: Any, works: Any, tmp_path: Path) -> None:
    for arguments, words in (
        (("--systems", "vae,vea"), "system 'vea' is unknown"),
        (("--systems", "vae,vae"), "name each once"),
        (("--latent-dims", "2,x"), "--latent-dims 2,x: expected whole numbers"),
        (("--seeds", ""), "--seeds"),
        (("--minutes", 1, "--steps", 2), "only one of --steps and --minutes"),
        (("--data", "nothing-such"), "no data set or folder"),
        ((tmp_path / "nowhere",), "does not exist"),
        ((*SPARSE, "--systems", "vae,gan"), "no effect on any of these systems (default)"),
    ):
        ended = vaegan("compare", "--outdir", tmp_path / "out", *arguments)
        assert ended.code == 2 and words in ended.err, ended.err
    assert not (tmp_path / "out").exists()
    works("compare", *COMMON, "--systems", "ae", "--outdir", tmp_path / "out")
    ended = vaegan("compare", "--systems", "ae", "--steps", 4, "--outdir", tmp_path / "out")
    assert ended.code == 2 and "holds a comparison on another budget (3 steps)" in ended.err
    (tmp_path / "out" / "budget.json").write_text("{}")
    ended = vaegan("compare", "--systems", "ae", "--steps", 4, "--outdir", tmp_path / "out")
    assert ended.code == 2 and "(unreadable): choose another --outdir" in ended.err


def test_refusals_of_finished_runs(vaegan: Any, works: Any, tmp_path: Path) -> None:
    out, run = tmp_path / "out", tmp_path / "out" / "ae-8-seed0"
    works("compare", *COMMON, "--systems", "ae", "--outdir", out)
    before = {name: (out / name).read_bytes() for name in ("compare.json", "table.md")}
    for arguments, words in (
        (("--steps", 4, "--recipe", "dense"), "--steps, --recipe: how to train, but"),
        (("--systems", "ae", "--seeds", "0"), "--systems, --seeds: how to train, but"),
        (("--set", "batch=8", "--precision", "auto"), "--precision, --set: how to train, but"),
        (("--outdir", out), "holds a trained ladder, whose results would be replaced: choose"),
        ((run, "--outdir", tmp_path / "b"), "are one run twice (same settings, seed 0)"),
    ):
        ended = vaegan("compare", run, *arguments)
        assert ended.code == 2 and words in ended.err, ended.err
        assert len(ended.err.strip().splitlines()) == 1
    assert before == {name: (out / name).read_bytes() for name in before}
    assert not (tmp_path / "b").exists()

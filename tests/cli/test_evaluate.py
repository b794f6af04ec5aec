"""`vaegan evaluate` on tiny runs: the file, the table, the figure, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import nn

from vaegan import __version__
from vaegan.cli.measuring import trained as reached
from vaegan.metrics.inception import Inception
from vaegan.rundir import RunDirectory

pytestmark = pytest.mark.usefixtures("quickly")
TINY = ("--data", "digits", "--recipe", "dense", "--steps", 3, "--batch", 8)


@pytest.fixture
def copied(trained: Any, tmp_path: Path) -> Any:
    """Return the function that copies a system's tiny run, so that it may be written into."""

    def of(system: str, name: str | None = None) -> Path:
        return Path(shutil.copytree(trained(system), tmp_path / (name or system)))

    return of


def test_a_run_is_measured_into_a_file_a_table_and_a_figure(works: Any, copied: Any) -> None:
    run = copied("cvae-gan")
    ended = works("evaluate", run, "--n", 100)
    tree = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)
    about = tree["about"]
    assert about["extractor"] == "judge-digits-labels" and about["real_images"] == 100
    assert 0.3 < about["extractor_accuracy"] <= 1 and about["split"] == "test"
    assert (about["recipe"], about["run_seed"], about["trained"]["step"]) == ("dense", 0, 3)
    assert about["seeds"] == [0] and "by_seed" not in tree
    assert about["vaegan_version"] == __version__ and len(about["extractor_digest"]) == 64
    for name in (
        "prior_frechet_distance",
        "floor_frechet_distance",
        "reconstruction_ssim",
        "transfer_slant_slope",
        "transfer_features_r",
        "latents_kl",
        "metric_similarity_shift_1",
    ):
        assert isinstance(tree[name], float), name
    with Image.open(run / "figures" / "learned-metric.png") as picture:
        picture.verify()
    # The accuracy of the judge, the counts, every group, an arrow, a value of the file.
    assert re.search(r"judge of digits: \d+\.\d+ %", ended.out)
    assert re.search(r"style encoder of digits: \d+\.\d+ % of images known again", ended.out)
    assert "D, depth 1: dense 256" in ended.out
    assert "100 images of each kind against 100 test images of digits" in ended.out
    for title in ("Images against real", "Transfer: every", "Latents", "Learned metric"):
        assert ended.out.count(title) == 1
    line = next(line for line in ended.out.splitlines() if "reconstr." in line)
    assert "real (floor)" in line
    (kl,) = (line for line in ended.out.splitlines() if line.strip().startswith("KL, nats"))
    assert kl.split()[-1] == f"{tree['latents_kl']:.2f}".lstrip("0")
    assert ended.out.isascii() is False and max(map(len, ended.out.splitlines())) <= 200
    assert "samples" in ended.err and str(run / "metrics.json") in ended.err


def test_the_same_seed_writes_the_same_numbers_elsewhere(
    works: Any, copied: Any, tmp_path: Path
) -> None:
    run = copied("cvae")
    trees = []
    for name in ("a.json", "b.json"):
        works("evaluate", run, "--n", 50, "--seeds", 3, "--out", tmp_path / "deep" / name)
        trees.append(json.loads((tmp_path / "deep" / name).read_text()))
        trees[-1].pop("seconds")
    assert trees[0] == trees[1] and trees[0]["about"]["seeds"] == [3]
    assert not (run / "metrics.json").exists()
    assert not (run / "figures" / "learned-metric.png").exists()  # a CVAE has no discriminator


def test_what_a_gan_lacks_is_named_and_the_rest_is_there(works: Any, copied: Any) -> None:
    ended = works("evaluate", copied("gan"), "--n", 50)
    missing = ended.out.split("Not measured")[1]
    assert "'gan' has no encoder" in missing and "is not told labels" in missing
    assert "Fréchet distance" in ended.out and "Transfer:" not in ended.out


def numbers(out: str, start: str) -> list[float]:
    """Value and half its interval in the last cell of the row that begins so."""
    (row,) = (line for line in out.splitlines() if line.strip().startswith(start))
    value, sign, half = row.split()[-3:]
    assert sign == "±"
    return [float(value), float(half)]


def test_several_runs_are_one_table_with_intervals_over_runs(
    works: Any, copied: Any, tmp_path: Path
) -> None:
    runs = [copied("vae"), tmp_path / "two"]
    works("train", *TINY, "--system", "vae", "--seed", 1, "--outdir", runs[1])
    ended = works("evaluate", *runs, "--n", 50)
    assert "mean of 2 runs ± half the 95 % t interval over runs" in ended.out
    one, two = (json.loads((run / "metrics.json").read_text())["latents_kl"] for run in runs)
    assert one != two
    # Student's t with one degree of freedom: 12.706 standard errors.
    expected = [(one + two) / 2, 12.706 * abs(one - two) / 2]
    assert numbers(ended.out, "KL, nats") == pytest.approx(expected, abs=0.006)
    assert ended.err.count("judge of digits") == 1  # one judge for both


def test_inception_has_a_table_of_its_own(
    works: Any, copied: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def load(*arguments: Any) -> Inception:
        asked.append(arguments)
        return Inception(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten()), 64 * "a")

    monkeypatch.setattr(Inception, "load", staticmethod(load))
    run, title = copied("vae"), "ImageNet Inception features: only for comparison with papers"
    ended = works("evaluate", run, "--n", 60)
    assert not asked and "Inception" not in ended.out
    assert "inception" not in (run / "metrics.json").read_text()

    options = ("--inception", "weights.pth", "--cache", tmp_path, "--device", "cpu")
    ended = works("evaluate", run, "--n", 60, *options)
    assert asked == [("weights.pth", tmp_path, "cpu")]
    tree = json.loads((run / "metrics.json").read_text())
    assert tree["about"]["inception"] == "inception-2015-12-05 sha256 aaaaaaaa"
    assert tree["about"]["extractor"] == "judge-digits-labels"
    before, after = ended.out.split(title)
    assert "ImageNet Inception features: inception-2015-12-05 sha256 aaaaaaaa" in before
    assert "FID" not in before and "Fréchet distance (FID)" in after
    value = tree["inception_prior_kernel_distance"]
    assert isinstance(value, float) and tree["prior_kernel_distance"] != value


def test_the_help_says_what_inception_costs_and_is_good_for(works: Any) -> None:
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", works("evaluate", "--help").out).split())
    assert "6 billion multiply-adds an image" in text and "Only for comparison with papers" in text


def test_runs_of_different_settings_are_tables_of_their_own(
    works: Any, copied: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    works("train", *TINY, "--system", "vae", "--set", "objective.kl_weight=2", "--outdir", other)
    ended = works("evaluate", copied("vae"), copied("gan"), other, "--n", 50)
    found = re.findall(r"^(?:vae|gan) 8.*$", ended.out, re.M)
    assert found == ["vae 8 kl_weight 1", "gan 8", "vae 8 kl_weight 2"]
    assert ended.out.count("1 run ± half the 95 % bootstrap interval over images") == 3
    assert "mean of" not in ended.out.replace("mean of classes", "")


def test_several_seeds_of_draws_are_one_file_of_means(works: Any, copied: Any) -> None:
    run = copied("vae")
    ended = works("evaluate", run, "--n", 60, "--seeds", "0,2,5")
    tree = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert tree["about"]["seeds"] == [0, 2, 5] and list(tree["by_seed"]) == ["0", "2", "5"]
    name = "prior_mean_gradient_ratio"
    each = [tree["by_seed"][seed][name] for seed in tree["by_seed"]]
    assert tree[name] == pytest.approx(sum(each) / 3) and len(set(each)) == 3
    low, high = tree["intervals"][name]
    # Student's t with two degrees of freedom: 4.303 standard errors.
    deviation = (sum((one - tree[name]) ** 2 for one in each) / 2) ** 0.5
    assert (high - low) / 2 == pytest.approx(4.303 * deviation / 3**0.5, rel=1e-3)
    assert "mean of 3 draws of 1 run ± half the 95 % t interval over draws" in ended.out
    # Each is what one seed alone gives.
    works("evaluate", run, "--n", 60, "--seeds", "2", "--out", run / "alone.json")
    alone = json.loads((run / "alone.json").read_text())
    own = tree["by_seed"]["2"]
    assert {key: alone[key] for key in own} == own


def test_how_far_a_run_is_counts_the_steps_since_the_last_row(works: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    works("train", *TINY[:-4], "--steps", 12, *TINY[-2:], "--outdir", run)
    numbers = json.loads((run / "checkpoints/step-00000012/state.json").read_text())
    expected = {name: round(numbers[name], 3) for name in ("step", "images_seen", "seconds")}
    assert reached(RunDirectory(run)) == expected
    works("evaluate", run, "--n", 60)
    shutil.rmtree(run / "checkpoints")  # to save room: what the log says is nearly as good
    ended = works("compare", run, "--n", 60, "--outdir", tmp_path / "out")
    assert "measured again" not in ended.err
    assert json.loads((run / "metrics.json").read_text())["about"]["trained"] == expected
    assert reached(RunDirectory(run))["step"] == 10
    (run / "stats.jsonl").unlink()
    assert reached(RunDirectory(run)) is None


def test_ctrl_c_while_measuring_is_one_line(
    vaegan: Any, copied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr("vaegan.evaluation.suite.measure_samples", interrupted)
    run = copied("vae")
    # A shell's background job starts with SIGINT ignored, and tests may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ended = vaegan("evaluate", run, "--n", 50)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.code == 130 and ended.out == ""
    last = ended.err.splitlines()[-1]
    assert last == "stopped; nothing is lost: the same command measures again"
    assert not (run / "metrics.json").exists()


def test_help_says_what_the_seeds_are_for(works: Any) -> None:
    for verb, words in (
        ("evaluate", "every run is measured with each"),
        ("compare", "Which draws to measure with."),
    ):
        text = re.sub(r"[\s│]+", " ", works(verb, "--help").out)
        assert words in text and "Which random choice." not in text


def test_refusals(vaegan: Any, copied: Any, tmp_path: Path) -> None:
    assert "name a run to evaluate" in vaegan("evaluate").err
    run = copied("vae")
    for arguments, words in (
        ((tmp_path / "nothing",), "does not exist; train first"),
        ((run, run, "--out", "x.json"), "--out takes one run"),
        ((run, run), f"{run} and {run} are one run twice (same settings, seed 0): leave one out"),
        ((run, copied("vae", "copy")), "are one run twice"),
        ((run, "--seeds", "1,x"), "--seeds 1,x: expected whole numbers, 0 or more, between"),
        ((run, "--seeds", "-1"), "--seeds -1: expected whole numbers"),
        ((run, "--seeds", "1,1"), "--seeds 1,1: name each once"),
        ((run, "--seeds", ""), "--seeds : name each once"),
        ((run, "--n", 1), "n"),
        ((run, "--inception", tmp_path / "nothing.pth"), "or the word download"),
        ((run, "--data", "mnist-of-nobody"), "no data set or folder"),
    ):
        ended = vaegan("evaluate", *arguments)
        assert ended.code == 2 and words in ended.err
        assert len(ended.err.strip().splitlines()) == 1
    assert not (run / "metrics.json").exists()

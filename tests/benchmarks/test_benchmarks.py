"""The harness of the benchmarks: its arithmetic, its processes, one tiny measure of each kind."""

import importlib
import json
import os
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.__main__ import MEASURES, main
from benchmarks.account import account
from benchmarks.bare import fastest
from benchmarks.contest import Contest, alternate, ratio, spread
from benchmarks.finding import Finding, Target, markdown
from benchmarks.operators import synchronisations, work_of
from benchmarks.plain_training import PlainTraining
from benchmarks.setting import Setting
from benchmarks.subject import Subject
from benchmarks.worker import ROOT, NotRun, Worker

from benchmarks import growth, scaling, start, tutorial
from vaegan.training import trainer_for

# ── arithmetic ───────────────────────────────────────────────────────────────────────────────────


def test_contenders_take_turns_and_the_warmup_does_not_count():
    order = []

    def lap(name):
        order.append(name)
        return float(len(order))

    laps = alternate({"a": lambda: lap("a"), "b": lambda: lap("b")}, rounds=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert laps == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_ratios_are_paired_by_round():
    """A machine that slows down by a factor of ten slows both: the ratio stays."""
    drift = np.geomspace(1, 10, 9)
    found = ratio(6 * drift, 2 * drift)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3))


def test_a_ratio_has_an_interval_that_holds_it():
    draw = np.random.default_rng(0)
    base, laps = 4 + 0.1 * draw.standard_normal(40), 2 + 0.1 * draw.standard_normal(40)
    found = ratio(base, laps)
    assert found.low < 2 < found.high
    assert 0.01 < found.high - found.low < 0.2


def test_spread_by_hand():
    found = spread([4.0, 1.0, 2.0, 3.0, 100.0])
    assert (found.median, found.low, found.high, found.laps) == (3.0, 2.0, 4.0, 5)


def test_targets_know_which_way_is_better():
    assert Target("", 2.0, 2.1).met and not Target("", 2.0, 1.9).met
    assert Target("", 2.0, 1.9, at_most=True).met and not Target("", 2.0, 2.1, at_most=True).met


def test_a_finding_as_a_table():
    finding = Finding("tutorial", "How fast")
    finding.contests.append(Contest("Batch 64", {"plain": [2.0, 2.0], "ours": [1.0, 1.0]}, 64))
    finding.targets.append(Target("times plain", 4.0, 2.0))
    finding.not_run.append("TensorFlow: not here")
    lines = markdown(json.loads(json.dumps(finding.tree()))).splitlines()
    assert "| ours | 1 (1 to 1) | 2.00 (2.00 to 2.00) | 64 |" in lines
    assert "| times plain | at least 4 | 2 | missed |" in lines
    assert "Not run: TensorFlow: not here" in lines


def test_a_line_is_fitted_to_relative_errors_and_never_below_zero():
    sizes = (1, 10, 100, 1000)
    assert scaling.fitted(sizes, [3 + 0.5 * size for size in sizes]) == pytest.approx((3, 0.5))
    assert scaling.fitted(sizes, [2 * size - 1e-3 for size in sizes]) == pytest.approx(
        (0, 2), rel=1e-3
    )
    host, image = scaling.fitted(sizes, [4, 4, 4, 3.9])
    assert image == 0 and host == pytest.approx(3.97, abs=0.01)


def test_sums_over_gpus_by_hand():
    one_machine = 2 * 7 / 8 * 4e9 / scaling.NVLINK + 2 * 3 * scaling.HOP
    assert scaling.summed(4e9, 8) == pytest.approx(one_machine)
    far = 2 * (3 * scaling.HOP + 3 * scaling.FAR_HOP)
    assert scaling.summed(0.0, 64) == pytest.approx(far)
    assert scaling.summed(4e9, 64) > 5 * one_machine  # the slow links between machines


# ── what is counted ──────────────────────────────────────────────────────────────────────────────


def test_work_of_a_convolution_by_hand():
    images, conv = torch.randn(2, 3, 8, 8), torch.nn.Conv2d(3, 5, 3, padding=1)
    work = work_of(lambda: conv(images).sum().backward())
    # 2 FLOP for each of 5 x 3 x 9 taps at 2 x 64 places; backward once more, for the weights.
    assert work.flop == 2 * (2 * 5 * 3 * 9 * 2 * 64)
    assert sorted(call.operator.overloadpacket.__name__ for call in work.calls) == [
        "convolution",
        "convolution_backward",
    ]
    for call in work.calls:
        name, seconds, run = fastest(call)
        assert name in {"float32, contiguous", "float32, channels last"}
        assert seconds > 0 and run() is not None


def test_waits_are_counted():
    x = torch.ones(3)
    assert synchronisations(lambda: None)["waits"] == 0
    assert synchronisations(x.tolist)["waits"] == 1
    assert synchronisations(lambda: (float(x.sum()), x[0].item(), bool(x[0] > 0)))["waits"] == 3


@pytest.mark.slow
def test_the_account_of_a_step_adds_up(configure, data_of):
    config = configure("cvae-gan", "default", batch=4)
    found = account(trainer_for(config, data_of(config)), steps=2)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert all(share >= 0 for share in found["shares"].values())
    assert {"convolutions", "optimiser", "averaging", "data"} <= set(found["shares"])
    assert found["shares"].get("other operators", 0) < 0.1


# ── contenders ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("recipe", "system"), [("default", "vae-gan"), ("tutorial", "cvae-gan")])
def test_plain_training_moves_every_network(configure, data_of, recipe, system):
    config = configure(system, recipe, batch=4, schedule__kind="together")
    batches = trainer_for(config, data_of(config)).batches
    training = PlainTraining(config, [batches(0), batches(1)])
    before = {name: p.clone() for name, p in training.model.named_parameters()}
    training.step()
    after = training.model.named_parameters()
    moved = {name.split(".")[0] for name, p in after if (p != before[name]).any()}
    assert moved == set(config.model.networks)


def test_a_subject_is_what_its_words_say(tmp_path):
    subject = Subject(width=0.5, images=5000, image_size=16, batch=8)
    assert Subject(**json.loads(json.dumps(subject.spec()))) == subject
    dataset = subject.dataset(tmp_path)
    assert len(dataset.train) == 5000
    assert dataset.image_size == (16, 16)
    assert isinstance(dataset.train.pixels, np.memmap)
    assert (dataset.train.pixels[512] == dataset.train.pixels[0]).all()
    config = subject.config(dataset)
    assert config.model.architecture.encoder[0] == "conv 16 k5 s2"
    assert config.model.architecture.decoder[4] == "grid 32 /4"


@pytest.mark.slow
def test_a_worker_runs_laps_and_says_why_it_cannot():
    spec = Subject(recipe="dense", batch=2, steps=2).spec()
    with Worker("ours", spec, threads=1) as worker:
        assert worker.about["parameters"] > 1000
        assert 0 < worker.lap() < 60
        assert worker.ask("memory")["peak_mb"] is None or worker.ask("memory")["peak_mb"] > 50
        assert worker.ask("synchronisations")["waits"] > 0
    with pytest.raises(NotRun, match="recipe 'none' is unknown"):
        Worker("ours", spec | {"recipe": "none"}, threads=1)
    with pytest.raises(NotRun, match="No such file"):
        Worker("ours", spec, threads=1, python="/no/such/python")


# ── measures ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_measure_from_command_line_to_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "AXES", {"batch": ((2,), (2, 4), {})})
    quick = ["--quick", "--threads", "1", "--results", str(tmp_path)]
    assert main([*quick, "--only", "growth"]) == 0
    tree = json.loads((tmp_path / "growth.json").read_text())
    assert tree["quick"] and tree["machine"]["threads"] == 1
    contest = tree["contests"][0]
    laps = contest["laps"]["batch 4"]
    assert contest["contenders"]["batch 4"]["median"] == statistics.median(laps)
    assert [row[0] for row in tree["grids"][0]["rows"]] == [2, 4]
    assert "Growth with batch" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "growth.png").stat().st_size > 1000
    assert "Growth with batch" in capsys.readouterr().out


def test_what_is_missing_is_said():
    with pytest.raises(NotRun, match="--tensorflow PYTHON"):
        tutorial._tensorflow(Setting(), 64)


@pytest.mark.parametrize("name", MEASURES)
def test_every_name_is_a_measure(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


@pytest.mark.slow
def test_two_ranks_are_two_and_send_each_other_all_gradients():
    subject = Subject(recipe="dense", batch=16, overrides={"schedule.kind": "together"})
    told = scaling.messages(subject)
    dataset = subject.dataset(Path())
    model = trainer_for(subject.config(dataset), dataset).model
    assert max(told["sent"]) == sum(p.numel() for p in model.parameters())
    assert all(seconds > 0 for _, seconds in told["seconds"])


@pytest.mark.slow
def test_the_first_step_is_one_that_was_made():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    seconds = start.first_step(["--data", "digits", "--threads", "1"], environment)
    assert 0.2 < seconds < start.PATIENCE
    with pytest.raises(NotRun, match="made no step"):
        start.first_step(["--data", "no-such-data"], environment)

"""Real models of every system: what each can be measured for, the same for any batch size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vaegan.data import Dataset, Split
from vaegan.errors import DataError
from vaegan.evaluation import evaluate
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.transfer import other_labels
from vaegan.metrics.distances import frechet_distance, kernel_distance
from vaegan.metrics.inception import Inception
from vaegan.metrics.judge import Judge
from vaegan.model import Model
from vaegan.settings import resolve


@pytest.fixture(scope="module")
def model_of(letters):
    """Return the function that makes a system's model with its initial weights."""

    def make(system: str, seed: int = 0, data: Dataset = letters) -> Model:
        config = resolve(data, system=system, recipe="dense", latent_dim=3)
        return Model(config.model, seed)

    return make


GROUPS = {
    # prefix -> systems that can be measured for it
    "floor_": {"ae", "cae", "vae", "cvae", "gan", "cgan", "vae-gan", "cvae-gan"},
    "prior_": {"vae", "cvae", "gan", "cgan", "vae-gan", "cvae-gan"},
    "prior_label_": {"cvae", "cgan", "cvae-gan"},
    "prior_classification_": {"cvae", "cgan", "cvae-gan"},
    "aggregate_": {"ae", "cae", "vae", "cvae", "vae-gan", "cvae-gan"},
    "aggregate_classification_": {"ae", "cae", "vae", "vae-gan"},
    "reconstruction_": {"ae", "cae", "vae", "cvae", "vae-gan", "cvae-gan"},
    "transfer_": {"cae", "cvae", "cvae-gan"},
    "transfer_prior_": {"cvae", "cvae-gan"},
    "transfer_features_": {"cae", "cvae", "cvae-gan"},
    "latents_kl": {"vae", "cvae", "vae-gan", "cvae-gan"},
    "latents_label_": {"ae", "cae", "vae", "cvae", "vae-gan", "cvae-gan"},
    "metric_": {"gan", "cgan", "vae-gan", "cvae-gan"},
}
WHY = {
    "ae": ["has no prior", "not told labels", "the code is a point", "no discriminator"],
    "cae": ["has no prior", "the code is a point", "no discriminator", "no control by prior"],
    "vae": ["prior: no label accuracy", "not told labels", "no discriminator"],
    "cvae": ["no discriminator"],
    "gan": ["reconstructions: system 'gan' has no encoder", "not told labels", "latents: system"],
    "cgan": ["reconstructions: system 'cgan' has no encoder", "latents:", "aggregate posterior"],
    "vae-gan": ["prior: no label accuracy", "not told labels"],
    "cvae-gan": [],
}


@pytest.mark.parametrize("system", WHY)
def test_what_a_system_lacks_is_said_and_the_rest_is_measured(
    system, model_of, letters, judge, style, brief
) -> None:
    told = []
    scores = evaluate(
        model_of(system),
        letters,
        judge,
        n=90,
        classifier=brief,
        style=style,
        progress=lambda part, share: told.append((part, share)),
    )
    for prefix, systems in GROUPS.items():
        has = any(name.startswith(prefix) for name in scores.values)
        assert has == (system in systems), (prefix, scores.skipped)
    for reason in WHY[system]:
        assert sum(reason in line for line in scores.skipped) >= 1, (reason, scores.skipped)
    assert all("\n" not in line and len(line) < 200 for line in scores.skipped)
    assert len(set(scores.skipped)) == len(scores.skipped)
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[0] == ("floor", 0.0) and told[-1] == ("done", 1.0)
    # The bar moves while classifiers train: no wait is longer than a third of the work.
    classified = any("_classification_" in name for name in scores.values)
    assert (sum(part == "samples" for part, _ in told) > 40) == classified
    assert not classified or max(np.diff([share for _, share in told])) < 0.34
    assert scores.about["real_images"] == scores.about["generated_images"] == 90
    assert scores.about["split"] == "test" and scores.about["extractor"] == "judge-letters-labels"
    assert scores.about["extractor_digest"] == judge.about["sha256"]
    assert scores.about["extractor_version"] == judge.about["version"]
    assert scores.about["seeds"] == [0]


def test_the_batch_size_changes_nothing_but_rounding(model_of, letters, judge, brief) -> None:
    model = model_of("cvae-gan")
    one, other = (
        evaluate(model, letters, judge, n=90, batch=batch, classifier=brief) for batch in (7, 500)
    )
    assert one.values.keys() == other.values.keys()
    for name, value in one.values.items():
        # A value on the border between two of 256 greys may fall to either side.
        assert value == pytest.approx(other.values[name], rel=0.02, abs=0.02, nan_ok=True), name
    assert one.skipped == other.skipped


def test_the_same_seed_gives_the_same_numbers(model_of, letters, judge, brief) -> None:
    model = model_of("cvae-gan")
    state = torch.random.get_rng_state()
    one, same, other = (
        evaluate(model, letters, judge, n=60, seed=seed, classifier=brief).as_json()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    for tree in (one, same, other):
        del tree["seconds"]
    assert one == same
    assert one["prior_frechet_distance"] != other["prior_frechet_distance"]


def test_unlabelled_data_is_measured_for_all_but_labels(letters, quick, tmp_path) -> None:
    bare = Dataset(
        "bare", *(Split(s.pixels, None) for s in (letters.train, letters.validation, letters.test))
    )
    judge = Judge.trained_on(bare, tmp_path, settings=quick)
    config = resolve(bare, system="vae-gan", recipe="dense", latent_dim=3)
    scores = evaluate(Model(config.model), bare, judge, n=60)
    assert scores.about["extractor"] == f"judge-bare-{judge.task}" != "judge-bare-labels"
    for name in ("prior_frechet_distance", "reconstruction_ssim", "metric_similarity_shift_1"):
        assert np.isfinite(scores.values[name])
    assert not [name for name in scores.values if "label" in name]
    assert sum("no labels" in line for line in scores.skipped) == 2  # by class, and the latents


def test_without_an_encoder_of_style_the_remedy_is_named(model_of, letters, judge, brief) -> None:
    scores = evaluate(model_of("cvae"), letters, judge, n=30, classifier=brief)
    assert "transfer_features_r" not in scores.values and "transfer_slant_r" in scores.values
    (line,) = (line for line in scores.skipped if "no style in features" in line)
    assert 'style=Judge.trained_on(dataset, task="style")' in line


def test_fewer_images_than_features_are_one_line(model_of, letters, judge, brief) -> None:
    scores = evaluate(model_of("cvae"), letters, judge, n=12, classifier=brief)
    assert "prior_frechet_distance" not in scores.values
    assert np.isfinite(scores.values["prior_kernel_distance"])
    lines = [line for line in scores.skipped if line.startswith("prior: no frechet_distance")]
    assert len(lines) == 1 and "12 images, 12 features" in lines[0]
    assert sum(line.startswith("by class: no frechet_distance") for line in scores.skipped) == 1


@pytest.fixture
def coarse() -> Inception:
    """In the place of the Inception network: each image as 4 x 4 in three channels, 48 features."""
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    return Inception(net, "0123456789abcdef" * 4)


def test_inception_is_measured_apart_and_only_when_asked_for(
    model_of, letters, judge, brief, coarse, monkeypatch
) -> None:
    drawn, latents = [], Bench.aggregate_latents
    monkeypatch.setattr(Bench, "aggregate_latents", lambda b: drawn.append(b) or latents(b))
    model, told = model_of("cvae-gan"), []
    with_it, without = (
        evaluate(
            model,
            letters,
            judge,
            n=90,
            classifier=brief,
            inception=inception,
            progress=lambda part, share: told.append((part, share)),
        )
        for inception in (coarse, None)
    )
    added = with_it.values.keys() - without.values.keys()
    assert added == {
        f"inception_{images}_{distance}_distance"
        for images in ("prior", "aggregate", "reconstruction", "floor")
        for distance in ("frechet", "kernel")
    }
    assert all(np.isfinite(with_it.values[name]) for name in added)
    same = {name: with_it.values[name] for name in without.values}
    assert same == pytest.approx(without.values, rel=0, abs=0, nan_ok=True)
    assert with_it.skipped == without.skipped
    assert with_it.about.pop("inception") == "inception-2015-12-05 sha256 01234567"
    assert with_it.about == without.about
    assert [part for part, _ in told].count("inception") == 1
    assert len(drawn) == 2  # the aggregate posterior, once for each of the two

    bench = Bench(model, letters, judge, 90)
    real, floor = coarse.features(bench.real.pixels), coarse.features(bench.training.pixels)
    assert with_it.values["inception_floor_frechet_distance"] == frechet_distance(real, floor)
    assert with_it.values["inception_floor_kernel_distance"] == kernel_distance(real, floor)


def test_inception_says_what_it_cannot_measure_once(model_of, letters, judge, coarse) -> None:
    scores = evaluate(model_of("gan"), letters, judge, n=30, inception=coarse)
    found = {name for name in scores.values if name.startswith("inception_")}
    assert found == {"inception_prior_kernel_distance", "inception_floor_kernel_distance"}
    lines = [line for line in scores.skipped if line.startswith("inception: ")]
    assert len(lines) == 2 and "30 images, 48 features" in lines[0]
    assert lines[1] == "inception: system 'gan' has no encoder"


def test_data_that_does_not_fit_is_refused(model_of, letters, judge) -> None:
    nothing = dataclasses.replace(letters, test=letters.validation, fingerprint="")
    with pytest.raises(DataError, match="no test images"):
        evaluate(model_of("vae"), nothing, judge)
    two = Dataset(
        "two",
        *(s.take(s.labels < 2) for s in (letters.train, letters.validation, letters.test)),
        ("I", "L"),
    )
    with pytest.raises(DataError, match="has 2 classes; this model was trained with 3"):
        evaluate(model_of("cvae"), two, judge)


# ── parts ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("count", "each"), [(3, 2), (300, 2), (600, 1), (30_000, 1)])
def test_every_cell_has_as_many_pairs(count, each) -> None:
    labels = np.arange(count) % 3
    targets, origin = other_labels(labels, 3)
    assert len(targets) == len(origin) == count * each
    assert (targets != labels[origin]).all()
    assert np.array_equal(np.bincount(origin), np.full(count, each))
    pairs = np.bincount(labels[origin] * 3 + targets, minlength=9).reshape(3, 3)
    assert pairs.diagonal().sum() == 0
    off = pairs[~np.eye(3, dtype=bool)]
    assert off.max() - off.min() <= 1


def test_aggregate_latents_have_the_moments_of_each_class(letters, judge, planted) -> None:
    model = planted()
    bench = Bench(model, letters, judge, 300)
    latents = bench.aggregate_latents().numpy()
    assert bench.aggregate.components in (1, 2, 4)
    assert latents.shape == (300, 2)
    codes = model.encode(torch.from_numpy(letters.train.pixels).permute(0, 3, 1, 2) / 255.0)
    for label in range(3):
        own = codes.mean.numpy()[letters.train.labels == label]
        drawn = latents[letters.test.labels == label]
        assert drawn.mean(0) == pytest.approx(own.mean(0), abs=4 / np.sqrt(100))
        assert drawn.std(0) == pytest.approx(own.std(0), rel=0.3)


def test_strokes_are_told_from_other_images(letters, judge, planted) -> None:
    assert Bench(planted(), letters, judge, 50).real_strokes is not None
    full = np.random.default_rng(0).integers(100, 256, (60, 28, 28, 1)).astype(np.uint8)
    split = Split(full, letters.test.labels[:60])
    clothes = Dataset("clothes", split, split.take(np.arange(0)), split, letters.class_names)
    assert Bench(planted(), clothes, judge, 50).real_strokes is None

"""The features of a discriminator at every depth, and the metric that the system trains with."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

from vaegan.config import ObjectiveConfig
from vaegan.errors import Unsupported
from vaegan.evaluation import picture
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.comparison import summarised
from vaegan.evaluation.learned import (
    CUTS,
    UNTRAINED,
    discriminator_metric,
    measure_metric,
    metric_rows,
    own_metric,
)
from vaegan.evaluation.measures import cell, filled, number
from vaegan.evaluation.scores import Scores
from vaegan.figures import theme
from vaegan.images import to_images
from vaegan.losses import learned_similarity
from vaegan.metrics.ranking import cut, ranking_test, shifted, squared_error
from vaegan.model import Model
from vaegan.settings import resolve

DEFAULT_DEPTHS = ["conv 32 k5 s2", "conv 32 k3", "conv 96 k3", "conv 128 k3"]


def model_of(data, recipe: str = "default", system: str = "cvae-gan") -> Model:
    return Model(resolve(data, system=system, recipe=recipe, latent_dim=3).model)


@pytest.mark.parametrize(
    ("recipe", "depths"),
    [
        ("default", DEFAULT_DEPTHS),
        ("dense", ["dense 256", "dense 128"]),
        ("tutorial", ["conv 128 k7 s2", "conv 64 k3"]),
    ],
)
def test_a_depth_for_every_layer_with_weights(letters, recipe, depths) -> None:
    model = model_of(letters, recipe)
    metric = discriminator_metric(model, letters.test.labels[:20], ObjectiveConfig())
    expected = [f"{number}: {line}" for number, line in enumerate(depths, 1)]
    assert list(metric.names) == [*expected, "similarity"]
    features = metric.features(letters.test.pixels[:20])
    assert len(features) == len(metric.names)
    assert all(layer.shape[0] == 20 and layer.ndim == 2 for layer in features)
    # Deterministic, dropout off, hooks gone, whatever the batch size.
    again = discriminator_metric(model, letters.test.labels[:20], ObjectiveConfig(), batch=7)
    for one, other in zip(features, again.features(letters.test.pixels[:20])):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert not [m for m in model.discriminator.modules() if m._forward_pre_hooks]


def test_the_last_depth_gives_the_logit(letters) -> None:
    model = model_of(letters, "dense")
    labels = letters.test.labels[:8]
    features = discriminator_metric(model, labels, ObjectiveConfig()).features(
        letters.test.pixels[:8]
    )
    with torch.no_grad():
        own = torch.from_numpy(labels)
        logit = model.discriminator.body.stages[-1](torch.from_numpy(features[-2]), own)
        expected = model.discriminator(to_images(letters.test.pixels[:8]), own).logits
    assert torch.allclose(logit, expected, atol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_the_similarity_is_the_training_loss(letters, normalised) -> None:
    model = model_of(letters)
    labels = torch.from_numpy(letters.test.labels[:32])
    pixels, copy = letters.test.pixels[:32], letters.test.pixels[:32][:, ::-1].copy()
    objective = ObjectiveConfig(similarity_normalised=normalised)
    metric = discriminator_metric(model, labels.numpy(), objective)
    reference, moved = metric.features(pixels)[-1], metric.features(copy)[-1]
    found = np.square(reference.astype(float) - moved).sum(1)
    with torch.no_grad():
        real = model.discriminator(to_images(pixels), labels).features
        fake = model.discriminator(to_images(copy), labels).features
        loss = learned_similarity(real, fake, "mse", 784 if normalised else 0).numpy()
    assert found * (784 if normalised else 1) / 2 == pytest.approx(loss, rel=1e-3)


@pytest.fixture(scope="module")
def measured(letters, judge) -> tuple[Bench, Scores]:
    """An untrained model on its bench, and the scores of its metric: not to be changed."""
    bench = Bench(model_of(letters), letters, judge, 300)
    scores = Scores({"seeds": [0], "real_images": 300})
    measure_metric(bench, scores, ObjectiveConfig())
    return bench, scores


def test_the_shares_are_those_of_the_pairs_at_the_sizes_they_name(measured) -> None:
    """1 px at 7 x 7 alone, half a pixel at 3 x 3 and 5 x 5, from the distances themselves."""
    bench, scores = measured
    rows = metric_rows(bench)
    pixels = bench.real.pixels[rows]
    features = own_metric(bench, rows, ObjectiveConfig()).features
    reference = features(pixels)

    def far(copy: np.ndarray, layer: int) -> np.ndarray:
        return np.square(features(copy)[layer].astype(float) - reference[layer]).sum(1)

    for variant, half, sizes in (("shift_1", False, (7,)), ("shift_half", True, (3, 5))):
        moved, cuts = shifted(pixels, half), [cut(pixels, size) for size in sizes]
        wrong = np.stack([squared_error(c, pixels) < squared_error(moved, pixels) for c in cuts])
        assert scores.values[f"metric_pairs_{variant}"] == len(rows) * len(sizes)
        assert scores.values[f"metric_pairs_{variant}_strict"] == wrong.sum() >= 100
        for who, layer in (("depth_1", 0), ("depth_3", 2), ("similarity", -1)):
            right = np.stack([far(moved, layer) < far(c, layer) for c in cuts])
            key = f"metric_{who}_{variant}"
            assert scores.values[key] == pytest.approx(right.mean(), abs=1e-3)
            assert scores.values[f"{key}_strict"] == pytest.approx(right[wrong].mean(), abs=1e-3)
            low, high = scores.intervals[key]
            assert low <= scores.values[key] <= high
            assert len(scores.tables[f"{key}_by_cut"]) == len(CUTS)
        assert scores.values[f"metric_pixels_{variant}_strict"] == 0


def test_a_share_of_few_pairs_is_a_dash(measured) -> None:
    _, scores = measured
    assert scores.values["metric_pairs_blur_strict"] < 100
    (table,) = (t for t in filled(scores.values, scores.about["metric_depths"]) if t[0].transposed)
    group, _, rows = table
    assert [row.words for row in rows] == [
        "pixels",
        *chain.from_iterable(
            (f"D, depth {number}: {line}", "  untrained")
            for number, line in enumerate(DEFAULT_DEPTHS, 1)
        ),
        "D, similarity",
        "  untrained",
        "judge",
        "pairs",
    ]
    for row in rows[:-1]:
        assert np.isnan(scores.values[group.key("blur_strict", row)])
        assert np.isfinite(scores.values[group.key("shift_1", row)])
    shown = summarised([scores])
    assert cell(shown[group.key("blur_strict", rows[0])], 3) == "–"
    assert cell(shown["metric_pairs_shift_1"], 0) == "300"


def test_the_untrained_control_is_the_mean_of_fresh_discriminators(measured) -> None:
    bench, scores = measured
    rows = metric_rows(bench)
    found = []
    for seed in range(UNTRAINED):
        fresh = own_metric(bench, rows, ObjectiveConfig(), seed).features
        (test,) = ranking_test(fresh, bench.real.pixels[rows], (7,))
        found.append(test.wins["shift_1"].mean(1))
    mean = np.mean(found, axis=0)
    assert scores.values["metric_untrained_shift_1"] == pytest.approx(mean[-1])
    assert scores.values["metric_untrained_depth_2_shift_1"] == pytest.approx(mean[1])


def test_the_picture_shows_pairs_that_pixels_rank_wrong(measured, monkeypatch) -> None:
    bench, scores = measured
    told = {}
    monkeypatch.setattr(picture, "drawn", lambda *given: told.update(zip("irs", given)))
    picture.learned_metric(bench, scores, ObjectiveConfig(), examples=4)
    images, ratios = told["i"], told["r"]
    assert images.shape == (4, 3, 28, 28, 1) and ratios.shape == (4, 4)
    known = {image.tobytes() for image in bench.real.pixels[metric_rows(bench)]}
    for original, moved, damaged in images:
        assert original.tobytes() in known
        assert np.array_equal(moved, shifted(original[None])[0])
        assert (damaged <= original).all() and (damaged < original).any()
    far, near = (squared_error(images[:, i], images[:, 0]) for i in (1, 2))
    assert ratios[:, 0] == pytest.approx(np.sqrt(near / far)) and (ratios[:, 0] < 1).all()


def test_the_picture_keeps_all_its_text_on_the_page(measured, monkeypatch) -> None:
    bench, scores = measured
    pages, new = [], theme.new_figure
    monkeypatch.setattr(theme, "new_figure", lambda *size: pages.append(new(*size)) or pages[-1])
    page = picture.learned_metric(bench, scores, ObjectiveConfig())
    assert isinstance(page, Image.Image) and min(page.size) > 600
    texts = list(pages[0].texts)
    for axes in pages[0].axes:
        texts += [axes.title, *axes.texts]
        if axes.axison:
            texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    for text in texts:
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= 0 and box.x1 <= page.width and box.y1 <= page.height
    words = [text.get_text() for text in texts]
    for share in ("metric_similarity_shift_1", "metric_judge_shift_half_strict"):
        assert number(scores.values[share], 3) in words
    again = picture.learned_metric(bench, scores, ObjectiveConfig())
    assert page.tobytes() == again.tobytes()


def test_no_picture_without_a_discriminator(letters, judge) -> None:
    bench = Bench(model_of(letters, system="cvae"), letters, judge, 50)
    with pytest.raises(Unsupported, match="'cvae' has no discriminator"):
        picture.learned_metric(bench, Scores(), ObjectiveConfig())

"""What the measures are called, which way they should go, and how they stand in a table.

A group is a table of its own: its rows are measures, its columns the things measured, and the key
of a cell in `Scores.values` is the column's prefix and the row's name, `prior_frechet_distance`
(in the table of the learned metric the row comes first).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vaegan.metrics.bootstrap import Interval

__all__ = ["COMPARED", "GROUPS", "SWEPT", "Group", "Measure", "cell", "filled", "metric_group"]

LOWER, HIGHER, ONE, ZERO, PLAIN = "↓", "↑", "→1", "→0", ""


@dataclass(frozen=True)
class Measure:
    """One row: the end of its keys, its words, its aim (an arrow), and digits after the point."""

    name: str
    words: str
    aim: str
    digits: int = 3


@dataclass(frozen=True)
class Group:
    """One table; `columns` maps prefixes of keys to headings, or their ends where `transposed`."""

    title: str
    columns: Mapping[str, str]
    rows: tuple[Measure, ...]
    transposed: bool = False

    def key(self, column: str, row: Measure) -> str:
        """The key of a cell in `Scores.values`."""
        return f"{row.name}_{column}" if self.transposed else f"{column}_{row.name}"


def styles() -> Iterator[Measure]:
    """r, slope and bias of every measure of style."""
    for style, unit in (("thickness", "px"), ("slant", "rad"), ("width", "sd")):
        yield Measure(f"{style}_r", f"{style} kept: r", HIGHER)
        yield Measure(f"{style}_slope", "  slope", ONE)
        yield Measure(f"{style}_bias", f"  bias, {unit}", ZERO)


GROUPS = (
    Group(
        "Images against real test images",
        {
            "prior": "prior samples",
            "aggregate": "aggregate",
            "reconstruction": "reconstr.",
            "floor": "real (floor)",
        },
        (
            Measure("frechet_distance", "Fréchet distance", LOWER, 2),
            Measure("kernel_distance", "kernel distance", LOWER, 4),
            Measure("precision", "precision", HIGHER),
            Measure("recall", "recall", HIGHER),
            Measure("density", "density", ONE),
            Measure("coverage", "coverage", HIGHER),
            Measure("frechet_distance_mean_of_classes", "Fréchet, mean of classes", LOWER, 2),
            Measure("label_accuracy", "label accuracy", HIGHER),
            Measure("diversity", "diversity in class", ONE),
            Measure("classification_accuracy", "classifier trained on it", HIGHER),
            Measure("classification_accuracy_of_real", "  trained on real", HIGHER),
            Measure("classification_accuracy_reverse", "  on it, trained on real", HIGHER),
            Measure("mean_gradient_ratio", "sharpness: gradient", ONE),
            Measure("laplacian_variance_ratio", "  Laplacian", ONE),
            Measure("grey_share_ratio", "  grey pixels", ONE),
            Measure("specked", "images with specks", LOWER),
            Measure("mse", "MSE", LOWER, 4),
            Measure("psnr", "PSNR, dB", HIGHER, 2),
            Measure("ssim", "SSIM", HIGHER),
        ),
    ),
    Group(
        "Transfer: every image under other labels",
        {
            "transfer": "transfer",
            "transfer_same": "same label",
            "transfer_shuffled": "shuffled",
            "transfer_prior": "prior codes",
        },
        (
            Measure("label_accuracy", "label accuracy", HIGHER),
            Measure("specked", "images with specks", LOWER),
            *styles(),
            Measure("features_r", "style features kept: r", HIGHER),
            Measure("features_slope", "  slope", ONE),
            Measure("features_retrieval", "  own source nearer", HIGHER),
            Measure("cycle_mse", "there and back: MSE", LOWER, 4),
            Measure("cycle_ssim", "  SSIM", HIGHER),
            Measure("cycle_latent_error", "  code, share lost", LOWER),
            Measure("truth_ssim", "true image: SSIM", HIGHER),
            Measure("truth_shuffled_ssim", "  of other sources", PLAIN),
            Measure("truth_label_accuracy", "  read by the judge", PLAIN),
        ),
    ),
    Group(
        "Latents",
        {"latents": "posterior"},
        (
            Measure("kl", "KL, nats", PLAIN, 2),
            Measure("active_units", "active units", PLAIN, 0),
            Measure("prior_distance", "distance from the prior", LOWER),
            Measure("label_linear", "label read from means", LOWER),
            Measure("label_neighbours", "  by neighbours", LOWER),
            Measure("label_of_draws_linear", "label read from draws", LOWER),
            Measure("label_of_draws_neighbours", "  by neighbours", LOWER),
            Measure("label_chance", "  by chance", PLAIN),
        ),
    ),
    Group(
        "ImageNet Inception features: only for comparison with papers",
        {
            "inception_prior": "prior samples",
            "inception_aggregate": "aggregate",
            "inception_reconstruction": "reconstr.",
            "inception_floor": "real (floor)",
        },
        (
            Measure("frechet_distance", "Fréchet distance (FID)", LOWER, 2),
            Measure("kernel_distance", "kernel distance (KID)", LOWER, 4),
        ),
    ),
)


def metric_group(depths: Sequence[str]) -> Group:
    """The table of the learned metric: here a row is what is measured, a column how.

    depths: what each depth of the discriminator begins with, as `about["metric_depths"]` names it.
    """
    rows = [Measure("metric_pixels", "pixels", PLAIN)]
    for number, name in enumerate(depths, 1):
        rows.append(Measure(f"metric_depth_{number}", f"D, depth {name}", HIGHER))
        rows.append(Measure(f"metric_untrained_depth_{number}", "  untrained", PLAIN))
    rows += [
        Measure("metric_similarity", "D, similarity", HIGHER),
        Measure("metric_untrained", "  untrained", PLAIN),
        Measure("metric_judge", "judge", PLAIN),
        Measure("metric_pairs", "pairs", PLAIN, 0),
    ]
    columns = {
        "shift_1": "1 px, cut 7",
        "shift_1_strict": "pixels wrong",
        "shift_half": "half px, cut 3, 5",
        "shift_half_strict": "pixels wrong",
        "blur": "blur, cut 3, 5",
        "blur_strict": "pixels wrong",
    }
    title = "Learned metric: share of pairs in which the shifted copy is nearer than the cut one"
    return Group(title, columns, tuple(rows), transposed=True)


COMPARED = (
    # What `compare` shows of each system: a whole key, and that of the same for real images.
    (
        Measure("prior_frechet_distance", "prior samples: Fréchet", LOWER, 2),
        "floor_frechet_distance",
    ),
    (Measure("prior_precision", "  precision", HIGHER), "floor_precision"),
    (Measure("prior_recall", "  recall", HIGHER), "floor_recall"),
    (Measure("prior_label_accuracy", "  label accuracy", HIGHER), "floor_label_accuracy"),
    (Measure("prior_diversity", "  diversity in class", ONE), "floor_diversity"),
    (
        Measure("prior_classification_accuracy", "  classifier trained on it", HIGHER),
        "prior_classification_accuracy_of_real",
    ),
    (Measure("prior_mean_gradient_ratio", "  sharpness", ONE), "floor_mean_gradient_ratio"),
    (Measure("prior_specked", "  images with specks", LOWER), "floor_specked"),
    (
        Measure("aggregate_frechet_distance", "aggregate posterior: Fréchet", LOWER, 2),
        "floor_frechet_distance",
    ),
    (Measure("aggregate_label_accuracy", "  label accuracy", HIGHER), "floor_label_accuracy"),
    (
        Measure("reconstruction_frechet_distance", "reconstructions: Fréchet", LOWER, 2),
        "floor_frechet_distance",
    ),
    (Measure("reconstruction_mse", "  MSE", LOWER, 4), ""),
    (Measure("reconstruction_ssim", "  SSIM", HIGHER), ""),
    (Measure("reconstruction_label_accuracy", "  label kept", HIGHER), "floor_label_accuracy"),
    (
        Measure("reconstruction_mean_gradient_ratio", "  sharpness", ONE),
        "floor_mean_gradient_ratio",
    ),
    (
        Measure("transfer_label_accuracy", "transfer: label accuracy", HIGHER),
        "floor_label_accuracy",
    ),
    (Measure("transfer_specked", "  images with specks", LOWER), "floor_specked"),
    (Measure("transfer_slant_r", "  slant: r", HIGHER), ""),
    (Measure("transfer_slant_slope", "  slant: slope", ONE), ""),
    (Measure("transfer_thickness_r", "  thickness: r", HIGHER), ""),
    (Measure("transfer_thickness_slope", "  thickness: slope", ONE), ""),
    (Measure("transfer_features_retrieval", "  own source nearer", HIGHER), ""),
    (Measure("transfer_cycle_ssim", "  there and back: SSIM", HIGHER), ""),
    (Measure("latents_kl", "KL, nats", PLAIN, 1), ""),
    (Measure("latents_label_of_draws_linear", "label read from the code", LOWER), ""),
    (Measure("metric_similarity_shift_1_strict", "learned metric, 1 px", HIGHER), ""),
)


SWEPT = (
    # What `compare` draws over the values of a setting: title, lines by name, key of real images.
    (
        "Fréchet distance",
        {
            "samples": "prior_frechet_distance",
            "reconstructions": "reconstruction_frechet_distance",
        },
        "floor_frechet_distance",
    ),
    (
        "Recall",
        {"samples": "prior_recall", "reconstructions": "reconstruction_recall"},
        "floor_recall",
    ),
    (
        "Sharpness: mean gradient over real",
        {
            "samples": "prior_mean_gradient_ratio",
            "reconstructions": "reconstruction_mean_gradient_ratio",
        },
        "floor_mean_gradient_ratio",
    ),
    ("SSIM of reconstructions", {"SSIM": "reconstruction_ssim"}, ""),
    (
        "Label read as asked",
        {
            "samples": "prior_label_accuracy",
            "reconstructions": "reconstruction_label_accuracy",
            "transfer": "transfer_label_accuracy",
        },
        "floor_label_accuracy",
    ),
    (
        "Style kept under transfer, r",
        {"slant": "transfer_slant_r", "thickness": "transfer_thickness_r"},
        "",
    ),
)


def filled(
    values: Mapping[str, object], depths: Sequence[str] = ()
) -> Iterator[tuple[Group, dict[str, str], list[Measure]]]:
    """Groups with the columns and rows for which there is any value; depths: see `metric_group`."""
    for group in (*GROUPS, metric_group(depths)):
        columns = {
            column: heading
            for column, heading in group.columns.items()
            if any(group.key(column, row) in values for row in group.rows)
        }
        rows = [row for row in group.rows if any(group.key(c, row) in values for c in columns)]
        if rows:
            yield group, columns, rows


def cell(interval: Interval | None, digits: int) -> str:
    """A value and half the width of its interval: `.945 ± .004`; a dash for what is undefined."""
    if interval is None or math.isnan(interval.value):
        return "–" if interval is not None else ""
    text = number(interval.value, digits)
    half = (interval.high - interval.low) / 2
    return text if math.isnan(half) else f"{text} ± {number(half, digits)}"


def number(value: float, digits: int) -> str:
    """Rounded, without a leading zero; in four figures when large."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        digits = min(digits, 1)
    text = f"{value:.{digits}f}"
    text = text.replace("-", "−") if float(text) else text.lstrip("-")
    return text.replace("0.", ".", 1) if abs(float(f"{value:.{digits}f}")) < 1 and digits else text

"""How far a set of images is from the real ones, in features: arrays (N, F) in, numbers out.

    frechet_distance    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2)          Heusel et al. 2017, eq. 6
    kernel_distance     MMD^2 with (x.y / F + 1)^3, unbiased               Binkowski et al. 2018
    precision, recall   share of one set within the k-NN balls of the other Kynkaanniemi et al. 2019
    density, coverage   balls around a generated image; real balls reached  Naeem et al. 2020

Lower is better for the distances, higher for the rest. All work in float64 on row blocks, so that
10,000 x 10,000 pairs need some 100 MB, and none depends on the size of the blocks or draws anything
at random. What a value means depends on the features, the number of images and the split: state
them, and the floor (the same measure between two sets of real images).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vaegan.errors import DataError, VaeganError

__all__ = [
    "Moments",
    "Neighbourhoods",
    "Reference",
    "compare_features",
    "compare_features_by_class",
    "distance_errors",
    "distances",
    "frechet_distance",
    "kernel_distance",
    "moments",
    "neighbourhoods",
]

BLOCK = 1000
GROUPS = 20  # of the jackknife


@dataclass(frozen=True)
class Moments:
    """Mean (F,) and covariance (F, F) of a set of features, divided by N - 1; float64."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    def distance(self, other: Moments) -> float:
        """The Frechet distance between the Gaussians of these moments.

        tr (S1 S2)^1/2 is the sum of the roots of the eigenvalues of R S2 R, where R = S1^1/2: a
        symmetric problem, which stays real where the covariances are nearly singular.
        """
        values, vectors = np.linalg.eigh(self.covariance)
        root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        inner = root @ other.covariance @ root
        cross = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(min=0)).sum()
        traces = np.trace(self.covariance) + np.trace(other.covariance)
        gap = self.mean - other.mean
        return max(float(gap @ gap + traces - 2 * cross), 0.0)


def moments(features: np.ndarray) -> Moments:
    """Mean and covariance of features (N, F).

    Raises DataError unless N > F: the covariance of fewer images is singular, and a distance
    computed from it mostly tells how few there were.
    """
    features = _checked(features)
    count, size = features.shape
    if count <= size:
        raise DataError(
            f"the Frechet distance needs more images than features: {count} images, "
            f"{size} features; give at least {size + 1} images"
        )
    mean = features.mean(axis=0)
    centred = features - mean
    return Moments(mean, centred.T @ centred / (count - 1), count)


class Reference:
    """Real features (N, F), to be compared with several sets: what depends on them alone is
    computed once. Every function here takes an array in its place as well.
    """

    def __init__(self, features: np.ndarray) -> None:
        self.features = _checked(features)
        self._reach: dict[int, np.ndarray] = {}

    @cached_property
    def moments(self) -> Moments:
        """Their `moments`."""
        return moments(self.features)

    @cached_property
    def kernel_within(self) -> float:
        """The mean kernel over all pairs of two of them."""
        return _kernel_within(_checked(self.features, 2))

    def reach(self, k: int) -> np.ndarray:
        """Squared distance of each to its k-th neighbour among the others (N,)."""
        if k not in self._reach:
            self._reach[k] = _reach(_checked(self.features, k + 1), k)
        return self._reach[k]


def frechet_distance(real: np.ndarray | Reference, generated: np.ndarray) -> float:
    """Frechet distance between features (N, F) and (M, F); raises DataError unless N, M > F."""
    return _reference(real).moments.distance(moments(generated))


def kernel_distance(real: np.ndarray | Reference, generated: np.ndarray) -> float:
    """Kernel distance between features (N, F) and (M, F), N, M >= 2: the unbiased MMD^2 over all
    pairs, which may be slightly negative. Not scaled (some papers print 1,000 times as much).
    """
    reference, generated = _reference(real), _checked(generated, 2)
    pairs = len(reference.features) * len(generated)
    between = _kernel_total(reference.features, generated) / pairs
    return reference.kernel_within + _kernel_within(generated) - 2 * between


def _kernel_within(features: np.ndarray) -> float:
    """Mean kernel over all pairs of two different rows."""
    n, size = features.shape
    own = (np.einsum("nf,nf->n", features, features) / size + 1) ** 3
    return (_kernel_total(features, features) - float(own.sum())) / (n * (n - 1))


def _kernel_total(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of (x.y / F + 1)^3 over all pairs."""
    total = 0.0
    for i in range(0, len(a), BLOCK):
        root = a[i : i + BLOCK] @ b.T
        root /= a.shape[1]
        root += 1
        total += float(np.square(root).ravel() @ root.ravel())
    return total


def distance_errors(real: np.ndarray | Reference, generated: np.ndarray) -> dict[str, float]:
    """Standard errors of frechet_distance and kernel_distance by a grouped jackknife: how far they
    move when every 20th image of both sets is left out (Shao and Wu 1989), those that can be had.

    That of the kernel distance is found on the first 1,500 images of each set at most, and scaled
    by the root of their share: right for distances well above 0, too large close to it.
    """
    reference = _reference(real)
    found = {}
    for measure, most in ((frechet_distance, None), (kernel_distance, 1500)):
        one, other = reference.features[:most], generated[:most]
        try:
            values = [
                measure(*(x[np.arange(len(x)) % GROUPS != group] for x in (one, other)))
                for group in range(GROUPS)
            ]
        except VaeganError:
            continue
        share = min(len(one) / len(reference.features), len(other) / len(generated))
        variance = (GROUPS - 1) * np.var(values) * share
        found[measure.__name__] = float(np.sqrt(variance))
    return found


@dataclass(frozen=True)
class Neighbourhoods:
    """Precision, recall and coverage in [0, 1], density >= 0; k-th neighbours.

    precision  share of generated images within reach of a real one (fidelity)
    recall     share of real images within reach of a generated one (variety)
    density    how many real images reach a generated one, over k (1 for real against real)
    coverage   share of real images that have a generated one within their reach
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def neighbourhoods(
    real: np.ndarray | Reference, generated: np.ndarray, k: int = 5
) -> Neighbourhoods:
    """Precision, recall, density and coverage of features (N, F) and (M, F).

    The reach of an image is the distance to its k-th neighbour in its own set, itself not counted.
    Raises DataError unless N, M > k.
    """
    reference, generated = _reference(real), _checked(generated, k + 1)
    reach_real, reach_generated = reference.reach(k), _reach(generated, k)
    reached = np.zeros(len(generated))
    recalled, covered = [], []
    for i, squared in _squared_distances(reference.features, generated):
        near = squared <= reach_real[i : i + len(squared), None]
        reached += near.sum(axis=0)
        covered.append(near.any(axis=1))
        recalled.append((squared <= reach_generated).any(axis=1))
    return Neighbourhoods(
        precision=float((reached > 0).mean()),
        recall=float(np.concatenate(recalled).mean()),
        density=float(reached.mean() / k),
        coverage=float(np.concatenate(covered).mean()),
        k=k,
    )


def _reach(features: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th neighbour among the other rows (N,)."""
    import torch  # its topk is twenty times faster than a partition

    found = []
    for i, squared in _squared_distances(features, features):
        squared[np.arange(len(squared)), i + np.arange(len(squared))] = -1  # itself comes first
        nearest = torch.from_numpy(squared).topk(k + 1, dim=1, largest=False).values
        found.append(nearest[:, k].numpy())
    return np.concatenate(found)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Squared Euclidean distances of a block of rows of `a` to all of `b`, and where it begins."""
    centre = b.mean(axis=0)  # lest |x|^2 + |y|^2 - 2 x.y lose digits far from the origin
    a, b = a - centre, b - centre
    squares = np.einsum("nf,nf->n", b, b)
    for i in range(0, len(a), BLOCK):
        rows = a[i : i + BLOCK]
        squared = rows @ (-2 * b.T)
        squared += squares
        squared += np.einsum("nf,nf->n", rows, rows)[:, None]
        yield i, np.maximum(squared, 0, out=squared)


def distances(
    real: np.ndarray | Reference, generated: np.ndarray
) -> tuple[dict[str, float], list[str]]:
    """frechet_distance and kernel_distance by name, and one line for each that cannot be had."""
    reference = _reference(real)
    values: dict[str, float] = {}
    problems: list[str] = []
    for measure in (frechet_distance, kernel_distance):
        try:
            values[measure.__name__] = measure(reference, generated)
        except VaeganError as error:
            problems.append(f"no {measure.__name__}: {error}")
    return values, problems


def compare_features(
    real: np.ndarray | Reference, generated: np.ndarray, k: int = 5
) -> tuple[dict[str, float], list[str]]:
    """All six measures that can be computed, by name, and one line for each that cannot.

    Names: frechet_distance, kernel_distance, precision, recall, density, coverage.
    """
    reference = _reference(real)
    values, problems = distances(reference, generated)
    try:
        near = neighbourhoods(reference, generated, k)
        values |= {
            name: getattr(near, name) for name in ("precision", "recall", "density", "coverage")
        }
    except VaeganError as error:
        problems.append(f"no precision, recall, density, coverage: {error}")
    return values, problems


def compare_features_by_class(
    real: np.ndarray,
    real_labels: np.ndarray,
    generated: np.ndarray,
    generated_labels: np.ndarray,
    k: int = 5,
) -> tuple[dict[int, dict[str, float]], list[str]]:
    """`compare_features` within each label of `generated_labels` (the labels asked for)."""
    values: dict[int, dict[str, float]] = {}
    problems: list[str] = []
    for label in np.unique(generated_labels).tolist():
        values[label], lines = compare_features(
            real[real_labels == label], generated[generated_labels == label], k
        )
        problems += [f"label {label}: {line}" for line in lines]
    return values, problems


def _reference(real: np.ndarray | Reference) -> Reference:
    """The reference itself, or that of an array."""
    return real if isinstance(real, Reference) else Reference(real)


def _checked(features: np.ndarray, least: int = 1) -> np.ndarray:
    """Features as float64 (N, F); DataError if fewer than `least`, not 2-d or not finite."""
    if features.ndim != 2:
        raise DataError(f"features must be (N, F), got {features.shape}")
    if len(features) < least:
        raise DataError(f"{len(features)} image(s) are too few: give at least {least}")
    if not np.isfinite(features).all():
        raise DataError("features are not finite: the network that made the images diverged")
    return features.astype(np.float64, copy=False)

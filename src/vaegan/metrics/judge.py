"""The judge: a classifier trained on a data set's own training split, used only to evaluate.

Its logits say which class an image shows; its penultimate features are the space of every distance
between sets of images. Inception features, made for photographs of ImageNet, mean little on digits.

Without labels there is no class to read. The same network is then trained to know an image again
after it was turned, scaled and shifted a little (SimCLR; see `classifier.train_encoder`). Distances
in those features compare models on that data set as well, on another scale: they see what makes one
image another, not what makes it one of a kind, and care less for a shift or a little blur.
`accuracy` is then the share of test images known again among 250, and `logits` and `predict`
refuse. (Measured on digits, labels withheld: the 5 nearest neighbours in these features tell the
digit in 98 %, in the features of a rotation predictor in 77 %; five digits left out raise the
Frechet distance to 19 times its floor, a rotation predictor's to 12 times. An autoencoder's code
tells the digit in 98 %, but takes slight noise for something else than the data altogether.)

The features of a judge of labels were trained to forget style. For that there is another encoder,
task "style": it knows an image again among others of its own label after a shift, so that it keeps
what sets an image apart within its class (slant, thickness and proportions; of clothes, whatever
the classes do not tell), and has no use for the class itself or for the place in the image.
(Measured, r and share of own sources nearer, of the judge's features and of this encoder's: on
drawn glyphs moved to another class in exactly their own style .50, .74 and .99, .99; on digits
moved by a CVAE/GAN, after 400 steps of training, .13, .60 and .57, .80; sources shuffled within
.02 of 0 and .01 of .5. Told apart from images of all labels alike, the encoder gives .71, .88 and
.45, .80; turned and scaled as well, .90, .96 and .39, .78.)
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from vaegan.errors import DataError, RunError, Unsupported
from vaegan.files import read_tensors, write_json, write_tensors
from vaegan.images import to_images
from vaegan.metrics.classifier import (
    DEFAULT_SETTINGS,
    DIRECTIONS,
    STYLE_SETTINGS,
    Classifier,
    Progress,
    TrainingSettings,
    disturb,
    known_again,
    train_classifier,
    train_encoder,
)
from vaegan.randomness import generator

if TYPE_CHECKING:
    from vaegan.data import Dataset, Split

__all__ = ["Judge", "judge_folder"]

VERSION = 1  # raise it whenever the network, its training or the reading of files changes
BATCH = 250
AMONG = 250  # images that an encoder has to tell one from


def judge_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """Where judges are kept: `cache`, else the environment variable VAEGAN_CACHE, else the user's
    cache folder; in its subfolder `judges`. It need not exist.
    """
    chosen = cache or os.environ.get("VAEGAN_CACHE")
    if chosen is None:
        import pooch

        chosen = pooch.os_cache("vaegan")
    return Path(chosen).expanduser() / "judges"


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained judge; make one with `Judge.trained_on`.

    task: "labels", or "instances" on data without labels; or "style", which sees what images of one
    label differ in. accuracy: on the test split, of labels read or of images known again; NaN if
    there is no test image. about: what is written beside the weights: data set, counts, settings,
    threads, and `sha256`, the digest of the weights: two judges are the same when it is.
    """

    net: Classifier
    task: str
    image_shape: tuple[int, int, int]
    accuracy: float
    about: dict[str, Any]
    device: str = "cpu"

    @property
    def num_features(self) -> int:
        """Length F of the features."""
        return self.net.head.out_features

    @property
    def num_classes(self) -> int:
        """Number K of classes that the judge reads, 0 where it reads none."""
        return self.net.out.out_features if self.task == "labels" else 0

    def __str__(self) -> str:
        name = "style encoder" if self.task == "style" else "judge"
        task = {
            "labels": "labels read",
            "instances": "images known again (no labels)",
            "style": "images known again",
        }[self.task]
        return (
            f"{name} of {self.about['data']}: {100 * self.accuracy:.2f} % of {task} on "
            f"{self.about['test_images']:,} test images, {self.num_features} features"
        )

    @staticmethod
    def trained_on(
        dataset: Dataset,
        cache: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
        settings: TrainingSettings | None = None,
        device: str = "cpu",
        task: Literal["style"] | None = None,
    ) -> Judge:
        """The judge of a data set: from the cache, or trained on `dataset.train` and put there.

        task: None reads labels, or knows images again where there are none; "style" trains the
        encoder of style, for which the data needs labels. settings: `DEFAULT_SETTINGS`, or
        `STYLE_SETTINGS` for style, when None.

        cache: folder, see `judge_folder`. The key is the fingerprint of the data, the settings and
        the version of the judge; a damaged file is trained again. progress(step, steps): called
        while training only. The weights depend on the thread count in their last bits, so that the
        cached judge of one machine is not byte for byte that of another: `about` records it.
        Raises DataError for images below 8 pixels a side or fewer than two training images,
        Unsupported for the style of unlabelled data.
        """
        found = Judge.cached(dataset, cache, settings, device, task)
        if found is not None:
            return found
        kind, settings = _kind(dataset, task, settings)
        pixels, labels = dataset.train.pixels, dataset.train.labels
        if kind != "labels" or labels is None:
            net = train_encoder(pixels, settings, progress, device, labels)
        else:
            net = train_classifier(pixels, labels, dataset.num_classes, settings, progress, device)
        about: dict[str, Any] = {
            "data": dataset.name,
            "fingerprint": dataset.fingerprint,
            "task": kind,
            "train_images": len(dataset.train),
            "test_images": len(dataset.test),
            "accuracy": _accuracy(net, kind, dataset.test, settings, device),
            "settings": asdict(settings),
            "version": VERSION,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": device,
            "sha256": _digest(net),
        }
        _save(_path(dataset, cache, settings, kind), net, about)
        return Judge._made(net, dataset, about, device)

    @staticmethod
    def cached(
        dataset: Dataset,
        cache: str | os.PathLike[str] | None = None,
        settings: TrainingSettings | None = None,
        device: str = "cpu",
        task: Literal["style"] | None = None,
    ) -> Judge | None:
        """The judge of a data set if it is in the cache, whole; None if it is not: nothing is
        trained. cache, settings, task: as for `trained_on`.
        """
        kind, settings = _kind(dataset, task, settings)
        shape = (*dataset.image_size, dataset.channels)
        outputs = dataset.num_classes if kind == "labels" else DIRECTIONS
        found = _load(_path(dataset, cache, settings, kind), shape, outputs, settings)
        return None if found is None else Judge._made(found[0], dataset, found[1], device)

    @staticmethod
    def _made(net: Classifier, dataset: Dataset, about: dict[str, Any], device: str) -> Judge:
        accuracy = float("nan" if about["accuracy"] is None else about["accuracy"])
        shape = (*dataset.image_size, dataset.channels)
        return Judge(net.to(device), about["task"], shape, accuracy, about, device)

    def read(self, pixels: np.ndarray, batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits in one pass: uint8 (N, H, W, C) -> float32 (N, F) and (N, K).

        The result depends on `batch` by rounding alone. Raises DataError for pixels that are not
        uint8 or not of the data set's shape, Unsupported for a judge of unlabelled data.
        """
        self._check_labels()
        return self._run(pixels, batch)

    def features(self, pixels: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """Penultimate features, uint8 (N, H, W, C) -> float32 (N, F), each >= 0."""
        return self._run(pixels, batch)[0]

    def logits(self, pixels: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """Scores of each class, uint8 (N, H, W, C) -> float32 (N, K)."""
        return self.read(pixels, batch)[1]

    def predict(self, pixels: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """The label that is read in each image, uint8 (N, H, W, C) -> int64 (N,)."""
        return self.read(pixels, batch)[1].argmax(axis=1)

    def depths(self, pixels: np.ndarray, batch: int = BATCH) -> list[np.ndarray]:
        """Flattened activations after every stage and the features, each float32 (N, F_l).

        For small N: the first has as many values as all its channels have pixels.
        """
        self._check_pixels(pixels)
        parts: list[list[np.ndarray]] = []
        with torch.inference_mode():
            for i in range(0, len(pixels), batch):
                images = to_images(np.ascontiguousarray(pixels[i : i + batch]), self.device)
                parts.append([x.flatten(1).cpu().numpy() for x in self.net.depths(images)[:-1]])
        return [np.concatenate(layer) for layer in zip(*parts)]

    def _run(self, pixels: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
        self._check_pixels(pixels)
        return _read(self.net, pixels, batch, self.device)

    def _check_pixels(self, pixels: np.ndarray) -> None:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.image_shape:
            raise DataError(
                f"this judge reads uint8 pixels (N, {', '.join(map(str, self.image_shape))}), got "
                f"{pixels.dtype} {pixels.shape}"
            )

    def _check_labels(self) -> None:
        if self.task != "labels":
            raise Unsupported(
                f"the data set {self.about['data']!r} has no labels: its judge has features, but "
                "cannot read a class"
                if self.task == "instances"
                else "an encoder of style has features, but cannot read a class"
            )


def _read(
    net: Classifier, pixels: np.ndarray, batch: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of uint8 pixels."""
    features = np.empty((len(pixels), net.head.out_features), dtype=np.float32)
    logits = np.empty((len(pixels), net.out.out_features), dtype=np.float32)
    with torch.inference_mode():
        for i in range(0, len(pixels), batch):
            found = net(to_images(np.ascontiguousarray(pixels[i : i + batch]), device))
            features[i : i + batch], logits[i : i + batch] = (x.cpu().numpy() for x in found)
    return features, logits


def _accuracy(
    net: Classifier, task: str, test: Split, settings: TrainingSettings, device: str
) -> float | None:
    """Share of test labels read right, or of images known again; None without test images."""
    if not len(test):
        return None
    if task == "labels":
        logits = _read(net, test.pixels, BATCH, device)[1]
        return float((logits.argmax(axis=1) == test.labels).mean())
    hits, random = 0, generator(settings.seed, "judge", "known again")
    for i in range(0, len(test), AMONG):
        images = to_images(np.ascontiguousarray(test.pixels[i : i + AMONG]))
        with torch.inference_mode():
            seen = known_again(net, images.to(device))
            again = known_again(net, disturb(images, settings, random).to(device))
        hits += int(((again @ seen.T).argmax(dim=1).cpu() == torch.arange(len(images))).sum())
    return hits / len(test)


# Keep judges on disk


def _kind(
    dataset: Dataset, task: Literal["style"] | None, settings: TrainingSettings | None
) -> tuple[str, TrainingSettings]:
    """What is trained on the data set, and how; Unsupported for the style of unlabelled data."""
    if task == "style":
        if not dataset.num_classes:
            raise Unsupported(f"the data set {dataset.name!r} has no labels: no style within them")
        return "style", settings or STYLE_SETTINGS
    return "labels" if dataset.num_classes else "instances", settings or DEFAULT_SETTINGS


def _path(
    dataset: Dataset, cache: str | os.PathLike[str] | None, settings: TrainingSettings, kind: str
) -> Path:
    """The file of a judge; its name changes with the data, the task, the settings, the version."""
    text = json.dumps([dataset.fingerprint, kind, asdict(settings), VERSION])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return judge_folder(cache) / f"{dataset.name}-{key}.safetensors"


def _digest(net: Classifier) -> str:
    """SHA-256 of the file that `_save` writes, in hex, whether it can be written or not."""
    from safetensors.torch import save

    plain = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    return hashlib.sha256(save(plain)).hexdigest()


def _save(path: Path, net: Classifier, about: dict[str, Any]) -> None:
    """Write the weights, then what they are with their digest; a full disk is only a warning."""
    try:
        write_tensors(path, net.state_dict())
        write_json(path.with_suffix(".json"), about)
    except (RunError, OSError) as error:
        warnings.warn(f"the judge is not kept for the next time: {error}", stacklevel=3)


def _load(
    path: Path, shape: tuple[int, int, int], num_classes: int, settings: TrainingSettings
) -> tuple[Classifier, dict[str, Any]] | None:
    """Weights and description from the cache; None if they are missing or not what was written."""
    try:
        about = json.loads(path.with_suffix(".json").read_text("utf-8"))
        if hashlib.sha256(path.read_bytes()).hexdigest() != about["sha256"]:
            return None
        net = Classifier(shape[2], num_classes, shape[:2], settings)
        net.load_state_dict(read_tensors(path, net.state_dict()))
    except (OSError, ValueError, KeyError, TypeError, RunError):
        return None
    return net.eval().requires_grad_(False), about

"""Every setting of a run, in one tree: flags, files and JSON are this, unknown keys are refused.

No torch here: `vaegan --help` is instant, and all of it is checked without a framework.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vaegan.blueprint import Traced, trace
from vaegan.errors import ConfigError, VaeganError

__all__ = [
    "FORMAT_VERSION",
    "SYSTEMS",
    "Architecture",
    "Family",
    "ModelConfig",
    "NetworkName",
    "ObjectiveConfig",
    "OptimiserConfig",
    "RunConfig",
    "ScheduleConfig",
    "System",
    "family_of",
    "read_config",
    "validated",
    "with_overrides",
]

FORMAT_VERSION = 1
GIVEN = {"format_version", "recipe", "data", "data_fingerprint", "precision", "seed"} | {
    f"model.{key}" for key in ("system", "image_size", "channels", "latent_dim")
}

System = Literal["ae", "cae", "vae", "cvae", "gan", "cgan", "vae-gan", "cvae-gan"]
Family = Literal["ae", "vae", "gan", "vae-gan"]
NetworkName = Literal["encoder", "decoder", "discriminator"]
SYSTEMS: tuple[str, ...] = get_args(System)

Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=10)]


def family_of(system: str) -> Family:
    """The objective behind a system's name: ``cvae-gan`` is ``vae-gan`` with labels."""
    families: dict[str, Family] = {
        "ae": "ae",
        "cae": "ae",
        "vae": "vae",
        "cvae": "vae",
        "gan": "gan",
        "cgan": "gan",
        "vae-gan": "vae-gan",
        "cvae-gan": "vae-gan",
    }
    if system not in families:
        raise ConfigError(f"system {system!r} is unknown; choose one of {', '.join(SYSTEMS)}")
    return families[system]


class Strict(BaseModel):
    """A group of settings: immutable, typed, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Strict)


class Architecture(Strict):
    """Three networks as lines of text (see `vaegan.blueprint`) and how their weights begin."""

    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    discriminator: tuple[str, ...]
    padding: Literal["tensorflow", "symmetric"] = "tensorflow"
    """Where a strided convolution puts an odd pixel of padding: at the end, or evenly."""
    initial: Literal["glorot", "he", "gaussian"] = "glorot"
    """Initial weights: Glorot uniform, He normal, or N(0, 0.02); biases are always zero."""
    spectral_norm: bool = False
    """Divide each weight matrix of the discriminator by its largest singular value."""
    centred: bool = False
    """Show the networks images in [-1, 1] and end the decoder in tanh (Larsen et al.)."""


class ModelConfig(Strict):
    """What a model is: the data's shape, the labels, and the networks."""

    system: System
    image_size: tuple[Annotated[int, Field(ge=8, le=1024)], Annotated[int, Field(ge=8, le=1024)]]
    channels: Annotated[int, Field(ge=1, le=4)]
    num_classes: Annotated[int, Field(ge=0, le=10_000)] = 0
    class_names: tuple[str, ...] = ()
    latent_dim: Annotated[int, Field(ge=1, le=4096)]
    logvar_limit: Annotated[float, Field(gt=0, le=50)] = 10.0
    """Log-variances are clamped to [-limit, limit], once, where the posterior is made."""
    kl_logvar_limit: Annotated[float, Field(gt=0, le=50)] | None = None
    """A tighter clamp inside the KL alone: the tutorial's disagreement, kept as a switch."""
    temperature: Annotated[float, Field(gt=0, le=4)] = 1.0
    """A prior that is fitted to the codes is given draws from N(0, temperature^2 I): samples are
    more varied above 1, safer below. Where nothing is fitted it is 1."""
    architecture: Architecture

    @model_validator(mode="after")
    def _agree(self) -> ModelConfig:
        conditional = self.system.startswith("c")
        if conditional != (self.num_classes > 0):
            raise ValueError(
                f"system {self.system!r} needs {'labels' if conditional else 'num_classes = 0'} "
                f"but num_classes is {self.num_classes}"
            )
        if len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names for num_classes = {self.num_classes}"
            )
        return self

    @property
    def family(self) -> Family:
        """Objective family: ae, vae, gan or vae-gan."""
        return family_of(self.system)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, *self.image_size)

    @property
    def networks(self) -> tuple[NetworkName, ...]:
        """The networks this system has, in the order encoder, decoder, discriminator."""
        return {
            "ae": ("encoder", "decoder"),
            "vae": ("encoder", "decoder"),
            "gan": ("decoder", "discriminator"),
            "vae-gan": ("encoder", "decoder", "discriminator"),
        }[self.family]  # type: ignore[return-value]

    def traced(self, network: NetworkName) -> tuple[Traced, ...]:
        """Shapes, parameters and work of a network's layers, heads included."""
        image, arch = self.image_shape, self.architecture
        lines, first = getattr(arch, network), 0
        while network == "decoder" and first < len(lines) and lines[first].startswith("coupling"):
            first += 1
        if misplaced := [line for line in lines[first:] if line.startswith("coupling")]:
            raise ConfigError(
                f"layer {misplaced[0]!r}: couplings are the first lines of a decoder, where "
                "latents are drawn"
            )
        if network == "encoder":
            body = trace(arch.encoder, image, image, self.num_classes)
            heads = 1 if self.family == "ae" else 2
            return body + trace((f"dense {self.latent_dim}",), body[-1].after, image, 0) * heads
        if network == "decoder":
            lines = lines if self.family == "vae-gan" else lines[first:]  # fitted there alone
            body = trace(lines, (self.latent_dim,), image, self.num_classes)
            if body[-1].after != image:
                raise ConfigError(f"the decoder ends in {body[-1].after}, but images are {image}")
            return body
        body = trace(arch.discriminator, image, image, self.num_classes)
        if body[-1].layer.word != "logit":
            raise ConfigError("the discriminator's last layer must be `logit`")
        words = [t.layer.word for t in body]
        if "classes" in words and {"label", "film"} & set(words[: words.index("classes")]):
            raise ConfigError(
                "the discriminator is told the label before its `classes` line, which would read "
                "it back; let it enter as `logit project`"
            )
        if self.family == "vae-gan" and all(t.layer.word != "features" for t in body):
            raise ConfigError("the discriminator needs a `features` line to measure similarity at")
        return body

    def parameters(self, network: NetworkName) -> int:
        """Number of trainable parameters of a network."""
        return sum(layer.parameters for layer in self.traced(network))


class ObjectiveConfig(Strict):
    """The terms of the losses and their weights.

    Sums over pixels, features and latents; means over the batch, unless `reduction` says otherwise.
    """

    pixel_loss: Literal["bce", "mse"] = "bce"
    """Cross-entropy, or half the squared error: -log p(x|z) of Bernoulli or unit Gaussian."""
    pixel_weight: Weight = 0.0
    """Weight of the pixel loss beside the learned similarity of a VAE/GAN; gamma applies to both.
    An ae or vae has no other reconstruction, and always the weight 1."""
    kl_weight: Weight = 1.0
    similarity_loss: Literal["mse", "bce"] = "mse"
    """Half the squared error between features (Larsen et al.), or the tutorial's cross-entropy."""
    similarity_normalised: bool = False
    """Measure each tapped layer's error as a share of the real features' mean square, times the
    number of pixels: neither the layers' sizes nor the scale of their weights set its weight."""
    similarity_dropout: bool = False
    """Leave the discriminator's dropout on while the similarity is measured: d(x, x) > 0."""
    similarity_weight: Weight = 1.0
    """The paper's gamma: weight of the similarity in the DECODER's loss; the encoder's is 1."""
    adversarial_loss: Literal["saturating", "non-saturating", "hinge"] = "non-saturating"
    adversarial_weight: Weight = 1.0
    """Weight of the adversarial term in the decoder's loss; 0 gives Larsen's VAE_Dis_l."""
    real_weight: Weight = 0.5
    prior_weight: Weight = 0.5
    """Weights of the terms of L_GAN: real images, samples from the prior, ..."""
    reconstruction_weight: Weight = 0.0
    """... reconstructions, ..."""
    transfer_weight: Weight = 0.0
    """... and transferred images: posterior means decoded under another label. Where a kind is
    missing, for want of labels or of an encoder, samples from the prior take over its weight."""
    torn_weight: Weight = 0.0
    """Weight, in what the discriminator minimises, of telling torn images from the real ones that
    they were made of: one in eight of a batch, with a patch of it copied to another place
    (`vaegan.augmentation`)."""
    label_weight: Weight = 0.0
    """Weight of the auxiliary classifier (`classes` in the discriminator) beside L_GAN: D learns
    the labels of real images by it, the decoder is asked for images that it reads right. The
    decoder's share is part of its adversarial term, which `adversarial_weight` multiplies."""
    cycle_weight: Weight = 0.0
    """Weight of |E(G(z, y'), y') - z|^2 / 2 on transferred and sampled images."""
    style_weight: Weight = 0.0
    """Weight, in the decoder's loss, of what transferred images lack of their sources' style in the
    discriminator's features and in strokes (`vaegan.style.Styles.lost`); there are some where
    `transfer_weight` > 0."""
    code_style_weight: Weight = 0.0
    """Weight, in a VAE/GAN's encoder's loss, of what of an image's strokes one line for all classes
    cannot read from its code (`vaegan.style.Styles.unsaid`); nothing without labels."""
    feature_matching_weight: Weight = 0.0
    """Weight of the distance between batch MEANS of features (Salimans et al. 2016)."""
    augment: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Shift all that the discriminator sees by up to this share of the image (Zhao et al. 2020)."""
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Denoising autoencoder: x + N(noise, noise^2), clipped to [0, 1], goes in; x comes out."""
    sparsity: Weight = 0.0
    """Sparse autoencoder: weight of the L1 norm of the code."""
    reduction: Literal["mean", "sum-per-pixel"] = "mean"
    """Mean over the batch; or the tutorial's sum over the batch divided by the pixel count."""


class OptimiserConfig(Strict):
    """One optimiser a network; the same kind for all, a learning rate for each."""

    kind: Literal["adam", "rmsprop", "rmsprop-tensorflow"] = "adam"
    encoder_lr: Rate = 1e-3
    decoder_lr: Rate = 1e-3
    discriminator_lr: Rate = 1e-3
    betas: tuple[
        Annotated[float, Field(ge=0, lt=1)],
        Annotated[float, Field(ge=0, lt=1)],
    ] = (0.9, 0.999)
    """Adam's; for RMSProp the second is its decay."""
    muon: tuple[NetworkName, ...] = ()
    """Networks whose matrices move by Muon (Jordan et al. 2024) and all else by `kind`."""
    muon_lr: Rate = 0.02
    """Muon's learning rate: a step's singular values are about this, and sqrt(rows / columns) times
    as much in a matrix that is taller than wide."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of each weight that a step takes off, times the learning rate of the rule that moves it
    (Loshchilov & Hutter 2019); RMSProp adds it to the gradient."""
    warmup: Annotated[int, Field(ge=0, le=10**6)] = 0
    """Steps over which the learning rates rise linearly to their values."""
    decay: Literal["constant", "cosine"] = "constant"
    """How the learning rates fall over the budget (steps, epochs or minutes)."""
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What is left of the learning rates at the end of `cosine`, as a share."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Exponential moving average of the weights, used for inference; 0 switches it off."""

    def lr(self, network: NetworkName) -> float:
        """Initial learning rate of a network."""
        return {
            "encoder": self.encoder_lr,
            "decoder": self.decoder_lr,
            "discriminator": self.discriminator_lr,
        }[network]


class ScheduleConfig(Strict):
    """Which networks step, and when. It only chooses; it never weighs."""

    kind: Literal["together", "ratio", "inner-loops", "equilibrium"] = "together"
    discriminator_steps: Annotated[int, Field(ge=1, le=100)] = 1
    """`ratio`: so many discriminator steps, then ..."""
    generator_steps: Annotated[int, Field(ge=1, le=100)] = 1
    """... so many steps of encoder and decoder. `inner-loops`: at most so many of each, ..."""
    discriminator_until: float = 1.0
    """... the discriminator's until L_GAN falls below this, ..."""
    generator_until: float = 0.4
    """... encoder's and decoder's until L_GAN rises above this (the tutorial's loops)."""
    equilibrium: float = 0.68
    margin: float = 0.35
    """`equilibrium`: skip the discriminator while either of its costs is below equilibrium -
    margin, the decoder while either is above equilibrium + margin (Larsen et al., nats)."""


class RunConfig(Strict):
    """One training run: everything that decides its result but its budget, which may grow."""

    format_version: Literal[1] = 1
    recipe: str
    data: str
    data_fingerprint: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    batch: Annotated[int, Field(ge=2, le=65536)] = 64
    precision: Literal["fp32", "bf16"] = "fp32"
    model: ModelConfig
    objective: ObjectiveConfig
    optimiser: OptimiserConfig
    schedule: ScheduleConfig


def read_config(path: Path) -> dict[str, Any]:
    """Parse a config.json; ConfigError, naming it, when it is not one of this version's."""
    try:
        tree = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(tree, dict) or "model" not in tree:
        raise ConfigError(f"{path} is not a vaegan config: it has no `model`")
    if tree.get("format_version") != FORMAT_VERSION:
        raise ConfigError(
            f"{path} has format version {tree.get('format_version')!r}; "
            f"this program reads version {FORMAT_VERSION}"
        )
    return tree


def validated(kind: type[T], tree: dict[str, Any], source: str) -> T:
    """Build `kind` from plain values; raise one line that names the first offending key."""
    try:
        return kind.model_validate(tree)
    except VaeganError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = {"extra_forbidden": "unknown key"}.get(first["type"], first["msg"])
        value = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
        raise ConfigError(f"{source}: {key}: {what}{value}") from None


def with_overrides(config: RunConfig, overrides: dict[str, str]) -> RunConfig:
    """Apply ``{"objective.kl_weight": "0.5"}``; values are JSON, or text where they are not.

    Raises ConfigError for an unknown key or a value of the wrong kind.
    """
    tree = config.model_dump(mode="json")
    for key, text in overrides.items():
        *path, last = key.split(".")
        if key in GIVEN:
            raise ConfigError(f"--set {key}: is given by the data or by a flag of its own")
        branch = tree
        for part in path:
            branch = branch.get(part, {}) if isinstance(branch, dict) else {}
        if not isinstance(branch, dict) or last not in branch:
            raise ConfigError(
                f"--set {key}: unknown key; `--dry-run` prints every key with its value"
            )
        try:
            branch[last] = json.loads(text)
        except json.JSONDecodeError:
            branch[last] = text
    return validated(RunConfig, tree, "--set")

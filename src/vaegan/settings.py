"""From a recipe, a system, the data's shape and a few flags to one complete `RunConfig`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from vaegan.blueprint import parse
from vaegan.config import (
    ModelConfig,
    NetworkName,
    RunConfig,
    ScheduleConfig,
    family_of,
    validated,
    with_overrides,
)
from vaegan.errors import ConfigError, DataError
from vaegan.presets import recipe_named

if TYPE_CHECKING:
    from vaegan.data import Dataset

__all__ = ["Budget", "idle", "resolve"]


def resolve(
    dataset: Dataset,
    *,
    system: str = "cvae-gan",
    recipe: str = "default",
    latent_dim: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    precision: str = "fp32",
    overrides: dict[str, str] | None = None,
    source: str | None = None,
) -> RunConfig:
    """The complete settings of a run on `dataset`; `source` is where to find it again.

    Raises ConfigError for an unknown system, recipe or key and for networks that do not fit the
    images, DataError when a conditional system meets unlabelled data.
    """
    preset = recipe_named(recipe)
    family = family_of(system)
    conditional = system.startswith("c")
    if conditional and not dataset.num_classes:
        raise DataError(f"data set {dataset.name!r} has no labels; use --system {system[1:]}")
    class_names = dataset.class_names if conditional else ()
    tree: dict[str, Any] = {
        "recipe": recipe,
        "data": dataset.name if source is None else source,
        "data_fingerprint": dataset.fingerprint,
        "seed": seed,
        "batch": preset.batch if batch is None else batch,
        "precision": precision,
        "model": {
            "system": system,
            "image_size": dataset.image_size,
            "channels": dataset.channels,
            "num_classes": len(class_names),
            "class_names": class_names,
            "latent_dim": preset.latent_dim if latent_dim is None else latent_dim,
            "logvar_limit": preset.logvar_limit,
            "kl_logvar_limit": preset.kl_logvar_limit,
            "temperature": preset.temperature,
            "architecture": preset.architecture.model_dump(),
        },
        "objective": preset.objective_for(family).model_dump(),
        "optimiser": preset.optimiser_for(family).model_dump(),
        "schedule": preset.schedule.model_dump(),
    }
    config = with_overrides(validated(RunConfig, tree, "settings"), overrides or {})
    if "gan" not in system:  # an autoencoder has no turns to take
        config = config.model_copy(update={"schedule": ScheduleConfig()})
    if config.batch > len(dataset.train):
        raise ConfigError(
            f"batch (={config.batch}) is larger than the training set (={len(dataset.train)}); "
            "use a smaller --batch"
        )
    for network in config.model.networks:
        config.model.traced(network)
    if not fitted_prior(config.model):
        model = config.model.model_copy(update={"temperature": 1.0})
        config = config.model_copy(update={"model": model})
    objective = config.objective
    readers = {parse(line).word for line in config.model.architecture.discriminator}
    if objective.label_weight and conditional and "gan" in system and "classes" not in readers:
        raise ConfigError(
            f"objective.label_weight (={objective.label_weight}) needs a `classes` line in the "
            f"discriminator, and recipe {recipe!r} has none"
        )
    shown = (objective.prior_weight, objective.reconstruction_weight, objective.transfer_weight)
    if "gan" in system and not any(shown):
        raise ConfigError(
            "the discriminator is shown no fake: give one of objective.prior_weight, "
            "reconstruction_weight and transfer_weight a value above 0"
        )
    return config


AUTOENCODERS, ADVERSARIAL, VAE_GAN = {"ae", "vae"}, {"gan", "vae-gan"}, {"vae-gan"}

EFFECT = {
    "objective.pixel_loss": AUTOENCODERS | VAE_GAN,
    "objective.pixel_weight": VAE_GAN,
    "objective.kl_weight": {"vae"} | VAE_GAN,
    "objective.noise": AUTOENCODERS,
    "objective.sparsity": {"ae"},
    "objective.adversarial_loss": ADVERSARIAL,
    "objective.adversarial_weight": ADVERSARIAL,
    "objective.real_weight": ADVERSARIAL,
    "objective.prior_weight": ADVERSARIAL,
    "objective.reconstruction_weight": ADVERSARIAL,  # a GAN's goes to samples from the prior
    "objective.transfer_weight": ADVERSARIAL,
    "objective.torn_weight": ADVERSARIAL,
    "objective.augment": ADVERSARIAL,
    "objective.label_weight": ADVERSARIAL,
    "objective.similarity_loss": VAE_GAN,
    "objective.similarity_normalised": VAE_GAN,
    "objective.similarity_dropout": VAE_GAN,
    "objective.similarity_weight": VAE_GAN,
    "objective.cycle_weight": VAE_GAN,
    "objective.style_weight": VAE_GAN,
    "objective.code_style_weight": VAE_GAN,
    "objective.feature_matching_weight": VAE_GAN,
}
"""Families that a setting can say something to; all of them where it is not named."""

OF_LABELS = {f"objective.{name}_weight" for name in ("label", "style", "code_style")}
"""Settings that say nothing to a system without labels."""

OF_SCHEDULES = {
    "discriminator_steps": {"ratio", "inner-loops"},
    "generator_steps": {"ratio", "inner-loops"},
    "discriminator_until": {"inner-loops"},
    "generator_until": {"inner-loops"},
    "equilibrium": {"equilibrium"},
    "margin": {"equilibrium"},
}
"""Schedules that read a setting of theirs."""


def idle(overrides: Iterable[str], config: RunConfig) -> list[str]:
    """Those of the keys given to `resolve` that change nothing in this run.

    0, which switches its term off, may be given to any system.
    """
    return [key for key in overrides if _without_effect(key, config)]


def _without_effect(key: str, config: RunConfig) -> bool:
    """Whether the value that this setting was given changes nothing."""
    model, (branch, _, name) = config.model, key.partition(".")
    value = getattr(getattr(config, branch, None), name, None)
    if key == "model.temperature":
        return not fitted_prior(model)
    if branch == "schedule":
        kinds = OF_SCHEDULES.get(name, {config.schedule.kind})
        return "discriminator" not in model.networks or config.schedule.kind not in kinds
    network = name.removeprefix("architecture.").removesuffix("_lr")
    if network in get_args(NetworkName):
        return network not in model.networks
    if name in {"logvar_limit", "kl_logvar_limit"}:
        return model.family not in {"vae", "vae-gan"}
    if not value:
        return False
    muon = set(config.optimiser.muon) & set(model.networks)
    if key == "optimiser.weight_decay":
        return config.optimiser.kind == "rmsprop-tensorflow" and not muon
    if key == "optimiser.muon_lr":
        return not muon
    if key == "optimiser.final_lr":
        return config.optimiser.decay == "constant"
    if key == "objective.style_weight" and not config.objective.transfer_weight:
        return True
    unlabelled = key in OF_LABELS and not model.num_classes
    return unlabelled or model.family not in EFFECT.get(key, {model.family})


def fitted_prior(model: ModelConfig) -> bool:
    """Whether samples are drawn through couplings that are fitted to the codes."""
    return any(line.layer.word == "coupling" for line in model.traced("decoder"))


@dataclass(frozen=True)
class Budget:
    """When a run ends: at a number of steps or of images, or after minutes of training."""

    steps: int | None = None
    images: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [n for n in (self.steps, self.images, self.minutes) if n is not None]
        if len(given) != 1:
            raise ConfigError("give one of --steps, --epochs and --minutes")
        if given[0] <= 0:
            raise ConfigError("--steps, --epochs and --minutes must be positive")

    def __str__(self) -> str:
        """`2,000 steps`, `10 minutes`."""
        if self.steps is not None:
            return f"{self.steps:,} steps"
        return (
            f"{self.images:,.0f} images" if self.images is not None else f"{self.minutes:g} minutes"
        )

    def share(self, step: int, images: int, seconds: float) -> float:
        """Share of the budget used so far; 1 or more means done."""
        if self.steps is not None:
            return step / self.steps
        if self.images is not None:
            return images / self.images
        return seconds / (60 * (self.minutes or 1.0))

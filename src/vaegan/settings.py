"""From a recipe, a system, the data's shape and a few flags to one complete `RunConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vaegan.blueprint import parse
from vaegan.config import ModelConfig, RunConfig, family_of, validated, with_overrides
from vaegan.errors import ConfigError, DataError
from vaegan.presets import recipe_named

if TYPE_CHECKING:
    from vaegan.data import Dataset

__all__ = ["Budget", "resolve"]


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
        # Schedules take turns between decoder and discriminator: an autoencoder has no turns.
        "schedule": preset.schedule.model_dump() if "gan" in system else {},
    }
    config = with_overrides(validated(RunConfig, tree, "settings"), overrides or {})
    if config.batch > len(dataset.train):
        raise ConfigError(
            f"batch (={config.batch}) is larger than the training set (={len(dataset.train)}); "
            "use a smaller --batch"
        )
    for network in config.model.networks:
        config.model.traced(network)
    if not fitted_prior(config.model):
        if "model.temperature" in (overrides or {}):
            raise ConfigError(
                "--set model.temperature: has no effect where no prior is fitted to the codes; "
                "give `vaegan sample --temperature`"
            )
        model = config.model.model_copy(update={"temperature": 1.0})
        config = config.model_copy(update={"model": model})
    objective, optimiser = config.objective, config.optimiser
    readers = {parse(line).word for line in config.model.architecture.discriminator}
    if objective.label_weight and conditional and "gan" in system and "classes" not in readers:
        raise ConfigError(
            f"objective.label_weight (={objective.label_weight}) needs a `classes` line in the "
            f"discriminator, and recipe {recipe!r} has none"
        )
    idle = {
        "objective.noise": objective.noise and family not in {"ae", "vae"},
        "objective.sparsity": objective.sparsity and family != "ae",
        "optimiser.weight_decay": optimiser.weight_decay and optimiser.kind == "rmsprop-tensorflow",
    }
    for key, ignored in idle.items():
        if ignored:
            raise ConfigError(f"--set {key}: has no effect on system {system!r} ({recipe})")
    return config


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

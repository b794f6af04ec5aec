"""Recipes as data: networks + objective + optimisers + schedule, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from vaegan.config import (
    Architecture,
    Family,
    NetworkName,
    ObjectiveConfig,
    OptimiserConfig,
    ScheduleConfig,
)
from vaegan.errors import ConfigError

__all__ = ["RECIPES", "Recipe", "recipe_named"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a name on the command line stands for; any setting can be overridden by a flag."""

    summary: str
    architecture: Architecture
    objective: ObjectiveConfig
    optimiser: OptimiserConfig
    schedule: ScheduleConfig
    gan_optimiser: OptimiserConfig | None = None
    batch: int = 64
    latent_dim: int = 8
    steps: int = 10_000
    image_size: int | None = None
    logvar_limit: float = 10.0
    kl_logvar_limit: float | None = None
    temperature: float = 1.0
    """Of a prior that is fitted to the codes; N(0, I) is drawn from as it was trained."""

    def objective_for(self, family: Family) -> ObjectiveConfig:
        """The objective of a rung of the ladder.

        `kl_weight` is weighed against the learned similarity; a plain VAE minimises minus the ELBO,
        in which the KL has the weight 1.
        """
        if family == "vae":
            return self.objective.model_copy(update={"kl_weight": 1.0})
        return self.objective

    def optimiser_for(self, family: Family) -> OptimiserConfig:
        """The optimiser of a rung of the ladder: a plain GAN may have its own."""
        return self.gan_optimiser if family == "gan" and self.gan_optimiser else self.optimiser


LRELU, DROPOUT = "lrelu 0.3", "dropout 0.3"

# ── The tutorial: "Autoencoders in Keras", part 6, conditional VAE/GAN on MNIST ─────────────────

TUTORIAL_ENCODER = (
    *("conv 32 k3 s2", LRELU, DROPOUT, "maxpool 2"),
    *("conv 64 k3", LRELU, DROPOUT),
    *("flatten", "label", "dense 64", LRELU, DROPOUT),
)
TUTORIAL_DECODER = (
    *("label", "grid 128 /4", LRELU, DROPOUT, "up 2"),
    *("conv 64 k5", LRELU, DROPOUT),
    *("conv 32 k3", "up 2", LRELU, DROPOUT),
    "image k5",
)


def tutorial_discriminator(*metric_layer: str) -> tuple[str, ...]:
    """The tutorial's discriminator around its metric layer."""
    return (
        *("conv 128 k7 s2", "maxpool 2", LRELU, DROPOUT, "label"),
        *("conv 64 k3", "maxpool 2", LRELU, DROPOUT),
        *metric_layer,
        *(LRELU, DROPOUT, "flatten", "logit"),
    )


TUTORIAL = Recipe(
    summary="the Keras tutorial's program, quirks included (48,000 iterations in the original)",
    architecture=Architecture(
        encoder=TUTORIAL_ENCODER,
        decoder=TUTORIAL_DECODER,
        # Quirk 1: the metric layer lies beside the path, so nothing ever trains it.
        discriminator=tutorial_discriminator("features 16 k3"),
    ),
    objective=ObjectiveConfig(
        similarity_loss="bce",
        similarity_dropout=True,  # quirk 4: other masks for x than for its reconstruction
        adversarial_loss="saturating",
        real_weight=0.25,  # quirk 3: real : fake = 1 : 3
        prior_weight=0.5,
        reconstruction_weight=0.25,
        reduction="sum-per-pixel",  # quirks 2 and 6: scales depend on the batch, thresholds inert
    ),
    optimiser=OptimiserConfig(
        kind="rmsprop-tensorflow",
        encoder_lr=1e-3,
        decoder_lr=3e-4,
        discriminator_lr=1e-3,
        betas=(0.0, 0.9),
        ema_decay=0.0,
    ),
    schedule=ScheduleConfig(kind="inner-loops", discriminator_steps=3, generator_steps=3),
    steps=48_000,
    logvar_limit=4.0,  # quirk 5: sampling clips logvar / 2, ...
    kl_logvar_limit=2.0,  # ... the KL clips logvar, both to [-2, 2]
)

TUTORIAL_FIXED = Recipe(
    summary="the tutorial with its documented defects mended; the metric layer is on D's path",
    architecture=Architecture(
        encoder=TUTORIAL_ENCODER,
        decoder=TUTORIAL_DECODER,
        discriminator=tutorial_discriminator("conv 16 k3", "features"),
    ),
    objective=ObjectiveConfig(
        similarity_loss="mse",
        similarity_normalised=True,
        similarity_weight=1.0,
        adversarial_loss="non-saturating",
        real_weight=0.5,
        prior_weight=0.25,
        reconstruction_weight=0.25,
    ),
    optimiser=TUTORIAL.optimiser.model_copy(update={"ema_decay": 0.999}),
    schedule=ScheduleConfig(kind="ratio", discriminator_steps=1, generator_steps=3),
    steps=48_000,
)

# ── Larsen et al. 2016: "Autoencoding beyond pixels using a learned similarity metric" ──────────

BN = ("batchnorm", "relu")

LARSEN = Recipe(
    summary="Larsen et al. 2016: 64x64 networks, gamma 1e-6, equilibrium rule; constant rates",
    architecture=Architecture(
        encoder=(
            *("conv 64 k5 s2", *BN, "conv 128 k5 s2", *BN, "conv 256 k5 s2", *BN),
            *("flatten", "label", "dense 2048", *BN),
        ),
        decoder=(
            *("label", "grid 256 /8", *BN),
            *("deconv 256 k5", *BN, "deconv 128 k5", *BN, "deconv 32 k5", *BN),
            "image k5",
        ),
        discriminator=(
            *("conv 32 k5", "relu", "conv 128 k5 s2", *BN, "conv 256 k5 s2", *BN),
            *("conv 256 k5 s2", "features", *BN),
            *("flatten", "label", "dense 512", *BN, "logit"),
        ),
        padding="symmetric",
        initial="gaussian",
        centred=True,
    ),
    objective=ObjectiveConfig(
        similarity_loss="mse",
        similarity_weight=1e-6,
        adversarial_loss="saturating",
        adversarial_weight=1 - 1e-6,
        real_weight=1.0,
        prior_weight=1.0,
        reconstruction_weight=0.0,  # in the paper's equation; off in the authors' scripts
    ),
    optimiser=OptimiserConfig(
        kind="rmsprop",
        encoder_lr=3e-4,
        decoder_lr=3e-4,
        discriminator_lr=3e-4,
        betas=(0.0, 0.9),
        weight_decay=1e-5,
    ),
    schedule=ScheduleConfig(kind="equilibrium"),
    latent_dim=128,
    steps=200_000,
    image_size=64,
)

# ── Ours ────────────────────────────────────────────────────────────────────────────────────────

ACT = "lrelu 0.2"
PRIOR = ("coupling 64", "coupling 64", "coupling 64")
NETWORKS: tuple[NetworkName, ...] = ("encoder", "decoder", "discriminator")
ADAM = OptimiserConfig(
    kind="adam",
    encoder_lr=3e-3,
    decoder_lr=3e-3,
    discriminator_lr=3e-3,
    betas=(0.5, 0.99),
    warmup=200,
    decay="cosine",
)

DEFAULT = Recipe(
    summary="ours: the best we can measure on a laptop's budget",
    architecture=Architecture(
        encoder=(
            *("conv 32 k5 s2", ACT, "conv 64 k3 s2", ACT, "conv 128 k3 s2", ACT),
            *("flatten", "label", "dense 128", ACT),
        ),
        decoder=(
            *PRIOR,
            *("label", "grid 64 /4", "groupnorm 8", "film", ACT, "up 2"),
            *("conv 40 k3", "groupnorm 8", "film", ACT),
            *("conv 40 k3", "groupnorm 8", "film", ACT),
            "image k3 /2",
        ),
        discriminator=(
            *("conv 32 k5 s2", ACT, "features"),
            *("conv 32 k3", ACT, "avgpool 2"),
            *("conv 96 k3", ACT, "features"),
            *("conv 128 k3", ACT, "features"),
            *("sum", "features", "classes", "logit project"),
        ),
        initial="he",
        spectral_norm=True,
    ),
    objective=ObjectiveConfig(
        similarity_loss="mse",
        similarity_normalised=True,
        pixel_weight=0.1,
        kl_weight=1.0,
        adversarial_loss="hinge",
        adversarial_weight=20.0,
        real_weight=1.0,
        prior_weight=0.5,
        transfer_weight=0.5,
        torn_weight=0.1,
        label_weight=1.0,
        style_weight=10.0,
        code_style_weight=6.0,
    ),
    optimiser=ADAM.model_copy(
        update={f"{network}_lr": 5e-3 for network in NETWORKS} | {"muon": NETWORKS}
    ),
    gan_optimiser=ADAM,  # under Muon the discriminator wins, and the decoder draws few shapes
    schedule=ScheduleConfig(kind="equilibrium"),
    temperature=1.1,
)

# ── Dense networks: parts 1 to 5 of the series ──────────────────────────────────────────────────

DENSE = Recipe(
    summary="dense networks, 784-147-98-49 and back, as in part 1 of the series",
    architecture=Architecture(
        encoder=(
            *("flatten", "label", "dense 147", ACT, "dense 98", ACT),
            *("dense 49", ACT),
        ),
        decoder=(*PRIOR, "label", "dense 49", ACT, "dense 98", ACT, "dense 147", ACT, "image"),
        discriminator=(
            *("flatten", "dense 256", ACT, "features"),
            *("dense 128", ACT, "features", "classes", "logit project"),
        ),
        initial="he",
        spectral_norm=True,
    ),
    objective=DEFAULT.objective.model_copy(
        update={"style_weight": 0.0, "code_style_weight": 0.0, "torn_weight": 0.0}  # not tried
    ),
    optimiser=DEFAULT.optimiser,
    gan_optimiser=ADAM,
    schedule=ScheduleConfig(kind="together"),
)

RECIPES: dict[str, Recipe] = {
    "default": DEFAULT,
    "tutorial": TUTORIAL,
    "tutorial-fixed": TUTORIAL_FIXED,
    "larsen": LARSEN,
    "dense": DENSE,
}


def recipe_named(name: str) -> Recipe:
    """The recipe called `name`; ConfigError lists the names."""
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r} is unknown; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]

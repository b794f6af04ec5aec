"""From names and flags to one complete config, and the budget."""

from __future__ import annotations

import pytest

from vaegan.config import SYSTEMS, RunConfig, ScheduleConfig, with_overrides
from vaegan.data import Dataset, load_dataset
from vaegan.errors import ConfigError, DataError
from vaegan.presets import RECIPES
from vaegan.settings import EFFECT, Budget, idle, resolve


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "larsen"])
def test_every_recipe_resolves_for_every_system(digits, recipe, system):
    config = resolve(digits, system=system, recipe=recipe)
    assert config.model.num_classes == (10 if system.startswith("c") else 0)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert config.objective.kl_weight == (
        1.0 if config.model.family == "vae" else RECIPES[recipe].objective.kl_weight
    )
    expected = RECIPES[recipe].schedule.kind if "gan" in system else "together"
    assert config.schedule.kind == expected


def test_larsen_wants_a_grid_of_eight(digits):
    with pytest.raises(ConfigError, match="28x28 is not divisible by 8"):
        resolve(digits, recipe="larsen")


def test_larsen_at_64_has_the_papers_shapes(digits):
    small = digits.train.take(digits.train.labels < 10)
    resized = Dataset(
        "digits",
        small.take(range(64)),
        small.take(range(0)),
        small.take(range(0)),
        digits.class_names,
    ).resized(64)
    config = resolve(resized, recipe="larsen", system="vae-gan")
    tapped = next(
        layer for layer in config.model.traced("discriminator") if layer.layer.word == "features"
    )
    assert tapped.after == (256, 8, 8)  # 16,384 values, as the paper's released code
    assert config.model.latent_dim == 128
    assert config.objective.similarity_weight == 1e-6


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"system": "vaegan"}, ConfigError, "vae-gan"),
        ({"recipe": "tutorail"}, ConfigError, "tutorial"),
        ({"batch": 5000}, ConfigError, "larger than the training set"),
        ({"latent_dim": 0}, ConfigError, "latent_dim"),
        ({"overrides": {"objective.kl_wieght": "1"}}, ConfigError, "unknown key"),
        ({"overrides": {"objective.kl_weight": "-1"}}, ConfigError, "kl_weight"),
        ({"overrides": {"objective": "1"}}, ConfigError, "objective"),
        (
            {"recipe": "tutorial", "overrides": {"objective.label_weight": "1"}},
            ConfigError,
            "needs a `classes` line",
        ),
        (
            {
                "overrides": {
                    "model.architecture.discriminator": '["label", "flatten", "features", '
                    '"classes", "logit"]'
                }
            },
            ConfigError,
            "told the label before",
        ),
    ],
)
def test_bad_settings_are_one_line(digits, arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        resolve(digits, **arguments)
    assert "\n" not in str(caught.value)


def test_a_conditional_system_needs_labels(digits):
    from vaegan.data import Split

    bare = Split(digits.train.pixels, None)
    unlabelled = Dataset("bare", bare, bare, bare)
    with pytest.raises(DataError, match="--system vae-gan"):
        resolve(unlabelled, system="cvae-gan")
    assert resolve(unlabelled, system="vae-gan").model.num_classes == 0


def test_overrides_reach_any_leaf(digits):
    config = resolve(digits)
    changed = with_overrides(
        config, {"objective.kl_weight": "2.5", "optimiser.decay": "constant", "batch": "32"}
    )
    assert (changed.objective.kl_weight, changed.optimiser.decay, changed.batch) == (
        2.5,
        "constant",
        32,
    )


@pytest.mark.parametrize(
    ("system", "key", "value", "ignored"),
    [
        ("cvae", "objective.style_weight", "3", True),
        ("cvae", "objective.pixel_weight", "3", True),
        ("cvae", "objective.pixel_weight", "0", False),  # switched off: nothing is missing
        ("cvae", "objective.kl_weight", "3", False),
        ("cvae", "objective.pixel_loss", "mse", False),
        ("cvae", "objective.adversarial_loss", "hinge", True),
        ("cvae", "schedule.kind", "ratio", True),
        ("cae", "objective.kl_weight", "3", True),
        ("cae", "objective.sparsity", "3", False),
        ("vae", "objective.sparsity", "3", True),
        ("vae", "objective.noise", "0.5", False),
        ("gan", "objective.kl_weight", "3", True),
        ("gan", "objective.noise", "0.5", True),
        ("gan", "objective.torn_weight", "3", False),
        ("gan", "optimiser.encoder_lr", "0.1", True),
        ("cvae", "optimiser.discriminator_lr", "0.1", True),
        ("cgan", "optimiser.final_lr", "0.1", False),
        ("cgan", "objective.label_weight", "3", False),
        ("gan", "model.temperature", "1.2", True),
        ("gan", "optimiser.muon_lr", "0.1", True),  # it has an optimiser of its own
        ("cvae", "optimiser.muon_lr", "0.1", False),
        ("cgan", "schedule.margin", "0.1", False),
        ("cgan", "schedule.generator_steps", "2", True),  # of other schedules than this
        ("gan", "model.logvar_limit", "3", True),
        ("ae", "model.kl_logvar_limit", "3", True),
        ("vae", "model.logvar_limit", "3", False),
        ("cvae", "model.architecture.discriminator", '["flatten", "logit"]', True),
        ("vae-gan", "model.temperature", "1.2", False),
        ("vae-gan", "objective.label_weight", "3", True),
        ("vae-gan", "objective.code_style_weight", "3", True),
        ("vae-gan", "objective.cycle_weight", "3", False),
        ("cvae-gan", "objective.code_style_weight", "3", False),
        ("cvae-gan", "objective.style_weight", "3", False),
        ("cvae-gan", "batch", "32", False),
    ],
)
def test_settings_without_effect_are_known(digits, system, key, value, ignored):
    config = resolve(digits, system=system, overrides={key: value})
    assert idle([key], config) == ([key] if ignored else [])


def test_style_is_asked_of_transferred_images(digits):
    chosen = {"objective.style_weight": "3", "objective.transfer_weight": "0"}
    assert idle(chosen, resolve(digits, overrides=chosen)) == ["objective.style_weight"]


def test_weight_decay_is_not_tensorflows(digits):
    config = resolve(digits, recipe="tutorial", overrides={"optimiser.weight_decay": "0.1"})
    assert idle(["optimiser.weight_decay"], config) == ["optimiser.weight_decay"]
    chosen = {"optimiser.weight_decay": "0.1", "optimiser.muon": '["encoder"]'}
    assert idle(chosen, resolve(digits, recipe="tutorial", overrides=chosen)) == []  # Muon has it
    chosen = {"optimiser.decay": "constant", "optimiser.final_lr": "0.1"}
    assert idle(chosen, resolve(digits, overrides=chosen)) == ["optimiser.final_lr"]


def test_an_autoencoder_takes_no_turns(digits):
    """Phases without a discriminator would be updates of the others: more than a step has."""
    chosen = {"schedule.kind": "ratio", "schedule.generator_steps": "3"}
    config = resolve(digits, system="cvae", overrides=chosen)
    assert config.schedule == ScheduleConfig()
    assert idle(chosen, config) == list(chosen)


@pytest.mark.parametrize("key", sorted(EFFECT))
def test_every_setting_with_a_family_exists(digits, key):
    part, _, name = key.partition(".")
    assert hasattr(getattr(resolve(digits), part), name)


@pytest.mark.parametrize("system", ["gan", "cvae-gan"])
def test_a_discriminator_is_shown_fakes(digits, system):
    none = {f"objective.{kind}_weight": "0" for kind in ("prior", "reconstruction", "transfer")}
    with pytest.raises(ConfigError, match="is shown no fake"):
        resolve(digits, system=system, overrides=none)
    for kind in none:  # any one of them will do; a GAN's all go to samples from the prior
        resolve(digits, system=system, overrides=none | {kind: "0.5"})


def test_budget_shares():
    assert Budget(steps=20).share(5, 10**9, 1e9) == 0.25
    assert Budget(minutes=2).share(10**9, 10**9, 30) == 0.25
    assert Budget(images=20).share(10**9, 5, 1e9) == 0.25
    for wrong in ({}, {"steps": 1, "minutes": 1}, {"steps": 0}, {"minutes": -1}):
        with pytest.raises(ConfigError):
            Budget(**wrong)

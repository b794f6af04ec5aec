import pytest
import torch

from vaegan.blueprint import WORDS, parse, trace
from vaegan.config import SYSTEMS, Architecture, ModelConfig
from vaegan.errors import ConfigError
from vaegan.model import Model
from vaegan.presets import RECIPES

GRID = (3, 12, 10)


def shapes(*lines: str, start=GRID, image=GRID, classes=5):
    return [layer.after for layer in trace(lines, start, image, classes)]


# ── parsing ──────────────────────────────────────────────────────────────────────────────────────


def test_numbers_are_found_by_prefix_and_by_place():
    assert parse("conv 64 k5 s2").numbers == {"channels": 64, "k": 5, "s": 2}
    assert parse("conv 64 k5").get("s", 1) == 1
    assert parse("grid 128 /4").numbers == {"channels": 128, "/": 4}
    assert parse("lrelu 0.3").numbers == {"slope": 0.3}
    assert parse("features").numbers == {}
    assert parse("features 16 k3").numbers == {"channels": 16, "k": 3}
    assert parse("logit project").get("project") == 1
    assert parse("logit").get("project") == 0
    assert parse("  dense   7 ").numbers == {"units": 7}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("konv 64 k5", "unknown word 'konv'"),
        ("", "unknown word ''"),
        ("conv k5", "'channels' is missing"),
        ("conv 64", "'k' is missing"),
        ("conv 64 k4", "kernel (=4) must be odd"),
        ("conv 64 k5 s0", "'s0' is out of range"),
        ("conv -3 k5", "'-3' is out of range"),
        ("conv 1.5 k5", "'1.5' is not a number"),
        ("conv 64 kx", "'x' is not a number"),
        ("conv 99999 k5", "'99999' is out of range"),
        ("conv 64 k5 k5", "'k5' does not belong here"),
        ("conv 64 k5 2", "'2' is one argument too many"),
        ("dense 5 6", "'6' is one argument too many"),
        ("dense 5 k3", "'k3' does not belong here"),
        ("relu 0.2", "'0.2' is one argument too many"),
        ("dropout 1", "'1' is out of range"),
        ("dropout nan", "'nan' is out of range"),
        ("lrelu", "'slope' is missing"),
        ("up 3", "factor must be 2"),
        ("conv 64 k5 project", "'project' is one argument too many"),
    ],
)
def test_a_wrong_line_is_quoted_with_the_reason(line, why):
    with pytest.raises(ConfigError) as caught:
        parse(line)
    assert repr(line) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_word_is_documented():
    import vaegan.blueprint

    for word in WORDS:
        assert word in vaegan.blueprint.__doc__


# ── shapes and counts ────────────────────────────────────────────────────────────────────────────


def test_shapes_of_every_word():
    assert shapes("conv 8 k3") == [(8, 12, 10)]
    assert shapes("conv 8 k7 s2", "conv 4 k3 s3") == [(8, 6, 5), (4, 2, 2)]
    assert shapes("conv 8 k5 s5") == [(8, 3, 2)]  # ceil(12/5), ceil(10/5)
    assert shapes("deconv 8 k5") == [(8, 24, 20)]
    assert shapes("up 2", "maxpool 2", "avgpool 2") == [(3, 24, 20), (3, 12, 10), (3, 6, 5)]
    assert shapes("maxpool 2", start=(4, 7, 5)) == [(4, 4, 3)]
    assert shapes("flatten", "dense 9") == [(360,), (9,)]
    assert shapes("sum") == [(3,)]
    assert shapes("label", "flatten", "label") == [(8, 12, 10), (960,), (965,)]
    assert shapes("grid 6 /2", start=(4,)) == [(6, 6, 5)]
    assert shapes("image k5") == [GRID]
    assert shapes("image", start=(4,)) == [GRID]
    assert shapes("residual 7 k3", "film", "groupnorm 7", "batchnorm") == [(7, 12, 10)] * 4
    assert shapes("features 5 k3", "features", "lrelu 0.2", "dropout 0.5") == [GRID] * 4
    assert shapes("flatten", "classes", "logit project") == [(360,), (360,), (1,)]


def test_parameters_by_hand():
    def count(line, start):
        (layer,) = trace((line,), start, GRID, 5)
        return layer.parameters

    assert count("conv 8 k3", GRID) == 8 * (3 * 9 + 1)
    assert count("deconv 8 k5", GRID) == 8 * (3 * 25 + 1)
    assert count("residual 3 k3", GRID) == 2 * 3 * (3 * 9 + 1)
    assert count("residual 4 k3", GRID) == 4 * (27 + 1) + 4 * (36 + 1) + 4 * (3 + 1)
    assert count("dense 9", (4,)) == 45
    assert count("grid 6 /2", (4,)) == 6 * 6 * 5 * 5
    assert count("image k5", GRID) == 3 * (75 + 1)
    assert count("image", (4,)) == 360 * 5
    assert count("film", GRID) == 2 * 5 * 3
    assert count("batchnorm", GRID) == 6
    assert count("groupnorm 3", GRID) == 6
    assert count("features 16 k3", GRID) == 16 * 28
    assert count("classes", (4,)) == 5 * 5
    assert count("logit", (4,)) == 5
    assert count("logit project", (4,)) == 5 + 5 * 4
    assert count("maxpool 2", GRID) == count("features", GRID) == count("label", GRID) == 0


def test_work_by_hand():
    def macs(line, start):
        (layer,) = trace((line,), start, GRID, 5)
        return layer.macs

    assert macs("conv 8 k3 s2", GRID) == 8 * 27 * 6 * 5
    assert macs("deconv 8 k5", GRID) == 8 * 75 * 12 * 10  # once per INPUT pixel
    assert macs("dense 9", (4,)) == 36
    assert macs("residual 4 k3", GRID) == 120 * (4 * 27 + 4 * 36 + 4 * 3)


@pytest.mark.parametrize(
    ("lines", "start", "why"),
    [
        (("dense 4",), GRID, "'dense 4' needs a vector but gets (3, 12, 10): `flatten` it first"),
        (("logit",), GRID, "'logit' needs a vector"),
        (("conv 4 k3",), (9,), "'conv 4 k3' needs a grid (C, H, W) but gets a vector (9,)"),
        (("features 4 k3",), (9,), "'features 4 k3' needs a grid"),
        (("avgpool 2",), (3, 7, 8), "'avgpool 2' needs an even grid but gets (3, 7, 8)"),
        (("grid 4 /8",), (9,), "image size 12x10 is not divisible by 8"),
        (("image k3",), (3, 6, 5), "gets a grid of 6x5, but images are 12x10"),
        (("image k3",), (9,), "a grid needs a kernel (k5), a vector none"),
        (("image",), GRID, "a grid needs a kernel (k5), a vector none"),
        (("image /2",), (9,), "/2 needs a grid and a kernel (image k3 /2)"),
        (("features k3",), GRID, "a kernel needs channels"),
        (("groupnorm 2",), GRID, "channels (=3) must be divisible by groups (=2)"),
        ((), GRID, "at least one layer"),
    ],
)
def test_layers_that_do_not_fit_say_so(lines, start, why):
    with pytest.raises(ConfigError) as caught:
        trace(lines, start, GRID, 5)
    assert why in str(caught.value)


# ── traced = built ───────────────────────────────────────────────────────────────────────────────


def built(recipe: str, system: str, size: int, classes: int = 10) -> ModelConfig:
    preset = RECIPES[recipe]
    number = classes if system.startswith("c") else 0
    return ModelConfig(
        system=system,
        image_size=(size, size),
        channels=1,
        num_classes=number,
        class_names=tuple(map(str, range(number))),
        latent_dim=preset.latent_dim,
        architecture=preset.architecture,
    )


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_traced_parameters_are_the_built_ones(recipe, system):
    # Larsen's networks hold 13 M weights at 64 x 64: 16 x 16 exercises the same lines.
    config = built(recipe, system, size=16)
    model = Model(config)
    assert {name for name, _ in model.named_children()} == set(config.networks)
    for name in config.networks:
        counted = sum(p.numel() for p in model.network(name).parameters())
        assert counted == config.parameters(name)


@pytest.mark.parametrize(
    "ending",
    [
        ("grid 4 /4", "up 2", "image k3 /2"),
        ("grid 4 /4", "up 2", "up 2", "image k3"),
        ("grid 4 /4", "up 2", "conv 3 k3", "up 2", "conv 3 k3 s1", "image k5 /1"),
        ("grid 4 /4", "up 2", "up 2", "up 2", "conv 3 k3 s2", "image k3"),
        ("grid 4 /2", "image k3 /2"),
        ("dense 5", "image /1"),
    ],
)
def test_a_decoder_is_built_as_it_was_traced(ending):
    preset = RECIPES["dense"].architecture.model_dump()
    config = ModelConfig(
        system="gan",
        image_size=(12, 8),
        channels=3,
        latent_dim=2,
        architecture=Architecture(**(preset | {"decoder": ending})),
    )
    decoder = Model(config).decoder
    assert decoder(torch.zeros(2, 2), None).shape == (2, 3, 12, 8)
    assert sum(p.numel() for p in decoder.parameters()) == config.parameters("decoder")


def test_the_tutorials_parameter_counts():
    config = built("tutorial", "cvae-gan", size=28)
    counts = [config.parameters(name) for name in ("encoder", "decoder", "discriminator")]
    assert counts == [221_264, 343_297, 96_209]
    (metric,) = [t for t in config.traced("discriminator") if t.layer.word == "features"]
    assert metric.parameters == 9_232


def test_larsens_feature_map_at_64_pixels():
    preset = RECIPES["larsen"]
    body = trace(preset.architecture.discriminator, (3, 64, 64), (3, 64, 64), 0)
    (tap,) = [layer for layer in body if layer.layer.word == "features"]
    assert tap.before == (256, 8, 8)  # 16,384 values


def test_networks_that_end_wrong_are_refused():
    preset = RECIPES["dense"].architecture.model_dump()

    def config(system="vae-gan", **changes):
        return ModelConfig(
            system=system,
            image_size=(8, 8),
            channels=1,
            latent_dim=2,
            architecture=Architecture(**(preset | changes)),
        )

    with pytest.raises(ConfigError, match=r"the decoder ends in \(3,\), but images are \(1, 8, 8"):
        config(decoder=("dense 3",)).traced("decoder")
    with pytest.raises(ConfigError, match="last layer must be `logit`"):
        config(discriminator=("flatten", "dense 3")).traced("discriminator")
    with pytest.raises(ConfigError, match="needs a `features` line"):
        config(discriminator=("flatten", "logit")).traced("discriminator")
    # A GAN measures no similarity: its discriminator needs no features.
    config("gan", discriminator=("flatten", "logit")).traced("discriminator")

"""A step is a function of the state and (seed, index): stop anywhere, go on, get the same bits."""

import pytest
import torch

from vaegan import checkpoint
from vaegan.config import SYSTEMS, ScheduleConfig
from vaegan.draws import Draws
from vaegan.errors import TrainingDiverged
from vaegan.trainer import Trainer
from vaegan.training import trainer_for

STEPS = 20


@pytest.fixture
def trainer_of(data_of):
    """Return the function that makes a trainer at step 0."""
    return lambda config: trainer_for(config, data_of(config))


def run(trainer, first, last):
    """Steps first .. last - 1 of STEPS; the values of each."""
    return [trainer.step(step / STEPS) for step in range(first, last)]


def assert_identical(ours: Trainer, theirs: Trainer):
    a, b = ours.tensors(), theirs.tensors()
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different
    assert ours.numbers() == theirs.numbers()


# ── resumed = unbroken ───────────────────────────────────────────────────────────────────────────

RUNS = [(system, "dense", 10, {}) for system in SYSTEMS] + [
    # Inner loops, dropout, TensorFlow's RMSProp; a rule, running statistics, weight decay; ours.
    ("cvae-gan", "tutorial", 6, {}),
    ("vae-gan", "larsen-small", 10, {}),
    ("cvae-gan", "default", 10, {}),
    ("ae", "dense", 10, {"objective__noise": 0.5, "objective__sparsity": 1e-3}),
    (
        "cvae-gan",
        "tutorial-fixed",
        6,
        {
            "objective__augment": 0.2,
            "objective__cycle_weight": 1.0,
            "objective__transfer_weight": 1.0,
            "model__architecture__spectral_norm": True,
        },
    ),
]


@pytest.mark.parametrize(("system", "recipe", "steps", "settings"), RUNS)
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(
    configure, trainer_of, tmp_path, system, recipe, steps, settings
):
    config = configure(system, recipe, batch=4, **settings)
    unbroken = trainer_of(config)
    history = run(unbroken, 0, steps)

    first = trainer_of(config)
    begun = run(first, 0, steps // 2)
    saved = checkpoint.save(tmp_path, first.tensors(), first.numbers())
    run(first, steps // 2, steps // 2 + 2)  # what happens after the save is lost, as in a crash

    torch.manual_seed(999)  # the state of a new process's generators does not matter
    second = trainer_of(config)
    second.load(*checkpoint.load(saved))
    rest = run(second, steps // 2, steps)

    assert_identical(second, unbroken)
    assert begun + rest == history
    moved = trainer_of(config)
    assert any(
        not torch.equal(t, moved.tensors()[name])
        for name, t in unbroken.tensors().items()
        if name.startswith("model/")
    )


@pytest.mark.parametrize("forgotten", ["optimiser", "average", "passes", "batches", "step"])
def test_whatever_is_forgotten_shows(configure, trainer_of, forgotten):
    """The negative control: each part of the state changes the result when it is left out."""
    dropout = ["flatten", "label", "dense 9", "dropout 0.3", "relu"]
    config = configure("cvae-gan", batch=4, model__architecture__encoder=dropout)
    unbroken = trainer_of(config)
    run(unbroken, 0, 6)
    first = trainer_of(config)
    run(first, 0, 3)
    tensors = {name: t.clone() for name, t in first.tensors().items()}
    numbers = first.numbers()
    second = trainer_of(config)
    if forgotten in numbers:
        numbers |= {forgotten: 0}
    else:
        fresh = second.tensors()
        tensors = {n: fresh.get(n, t) if n.startswith(forgotten) else t for n, t in tensors.items()}
        if forgotten == "optimiser":
            tensors = {n: t for n, t in tensors.items() if not n.startswith("optimiser/")}
    second.load(tensors, numbers)
    run(second, 3, 6)
    a, b = unbroken.tensors(), second.tensors()
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_loading_keeps_the_memory_layout(configure, trainer_of):
    """Channels-last weights in another layout would give other bits."""
    config = configure("cvae-gan", "default", batch=4)
    first, second = trainer_of(config), trainer_of(config)
    run(first, 0, 2)
    tensors = {name: t.contiguous() for name, t in first.tensors().items()}
    second.load(tensors, first.numbers())
    run(second, 0, 1)
    strides = lambda trainer: {name: t.stride() for name, t in trainer.tensors().items()}
    assert strides(first) == strides(second)


# ── reproducible ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("recipe", ["dense", "tutorial"])
def test_the_same_seed_gives_the_same_bits_and_another_others(configure, trainer_of, recipe):
    def weights(seed):
        trainer = trainer_of(configure("cvae-gan", recipe, batch=4, seed=seed))
        torch.manual_seed(torch.seed() % 1000)  # whatever the process did before
        return trainer, run(trainer, 0, 4)

    (first, a), (again, b), (_, c) = weights(1), weights(1), weights(2)
    assert_identical(first, again)
    assert a == b
    assert all(x["gan"] != y["gan"] for x, y in zip(a, c))


def test_the_callers_modules_may_use_randomness_in_between(configure, trainer_of):
    """A watcher that draws pictures between steps must not change the run."""
    config = configure("cvae-gan", "tutorial", batch=4)
    quiet, disturbed = trainer_of(config), trainer_of(config)
    run(quiet, 0, 3)
    for step in range(3):
        run(disturbed, step, step + 1)
        torch.rand(1000)
        disturbed.average.model.sample(3)
    assert_identical(quiet, disturbed)


def test_dropout_differs_between_passes(configure, trainer_of):
    config = configure("cvae", "tutorial", batch=4)
    trainer = trainer_of(config)
    batch = trainer.batches(0)
    candidates = frozenset({"encoder", "decoder"})
    first = trainer._evaluate(batch, 0, candidates).values["pixel"]
    again = trainer._evaluate(batch, 0, candidates).values["pixel"]
    trainer.progress.passes += 1
    other = trainer._evaluate(batch, 0, candidates).values["pixel"]
    assert first == again != other


def test_draws_of_a_row_do_not_depend_on_its_batch(configure, trainer_of):
    """Half a global batch on each of two ranks is drawn as the whole is on one."""
    config = configure("cvae-gan", batch=8)
    model = trainer_of(config).model
    of = lambda rows: Draws.of(0, 5, model, config.objective, 8, rows)
    whole, first, second = of(slice(None)), of(slice(0, 4)), of(slice(4, 8))
    assert torch.equal(whole.posterior, torch.cat([first.posterior, second.posterior]))
    assert torch.equal(whole.prior, torch.cat([first.prior, second.prior]))
    assert torch.equal(whole.hop, torch.cat([first.hop, second.hop]))


# ── what a step does ─────────────────────────────────────────────────────────────────────────────


def test_progress_counts(configure, trainer_of):
    trainer = trainer_of(configure("cvae-gan", "dense", batch=4))
    run(trainer, 0, 3)
    assert {k: v for k, v in trainer.numbers().items() if k != "seconds"} == {
        "step": 3,
        "passes": 3,
        "batches": 3,
        "images_seen": 12,
    }
    # The tutorial's thresholds are inert: 1 + 3 passes a step, on 3 batches.
    trainer = trainer_of(configure("cvae-gan", "tutorial", batch=4))
    for values in run(trainer, 0, 2):
        steps = [values[f"{name}_steps"] for name in trainer.config.model.networks]
        assert steps == [3, 3, 1]
    assert trainer.progress.passes == 8
    assert trainer.progress.batches == 6
    assert trainer.progress.images_seen == 24


def test_only_active_networks_move(configure, trainer_of):
    """An equilibrium above all costs says that D is winning; one below them, that it is losing."""
    for equilibrium, still in ((1e9, "discriminator"), (-1e9, "decoder")):
        config = configure(
            "vae-gan",
            schedule__kind="equilibrium",
            schedule__equilibrium=equilibrium,
            schedule__margin=0.0,
        )
        trainer = trainer_of(config)
        before = {name: t.clone() for name, t in trainer.model.named_parameters()}
        (values,) = run(trainer, 0, 1)
        moved = {
            name.partition(".")[0]
            for name, t in trainer.model.named_parameters()
            if not torch.equal(before[name], t)
        }
        assert moved == {"encoder", "decoder", "discriminator"} - {still}
        assert values[f"{still}_steps"] == 0
        assert values["encoder_steps"] == 1


def test_learning_rates_follow_the_budget(configure, trainer_of):
    trainer = trainer_of(configure("vae", "dense", optimiser__decoder_lr=2e-3))
    assert trainer.config.optimiser.decay == "cosine"
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.step(0.5)
    moved: dict[str, float] = {}
    for name, parameter in trainer.model.named_parameters():
        network, way = (
            name.partition(".")[0],
            float((parameter.detach() - before[name].detach()).abs().max()),
        )
        moved[network] = max(moved.get(network, 0.0), way)
    assert moved == pytest.approx({"encoder": 0.5e-3, "decoder": 1e-3}, rel=1e-3)  # Adam's first
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.step(1.0)  # cosine ends at zero
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters()))


@pytest.mark.parametrize(
    ("precision", "inside"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_half_precision_is_for_activations_alone(configure, trainer_of, precision, inside):
    config = configure("cvae-gan", "default").model_copy(update={"precision": precision})
    trainer = trainer_of(config)
    seen, judged = [], []
    for network in (trainer.model.encoder, trainer.model.decoder, trainer.model.discriminator):
        for part in network.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.register_forward_hook(lambda _, given, made: seen.append(made.dtype))
    trainer.model.discriminator.register_forward_hook(lambda _, g, made: judged.append(made))
    trainer.step()
    assert set(seen) == {inside}
    assert {j.logits.dtype for j in judged} | {j.classes.dtype for j in judged} == {torch.float32}
    kept = [*trainer.tensors().values(), *(p.grad for p in trainer.model.parameters())]
    assert {t.dtype for t in kept if t is not None and t.is_floating_point()} == {torch.float32}


def test_the_average_follows_the_model(configure, trainer_of):
    trainer = trainer_of(configure("cvae-gan", "dense", optimiser__ema_decay=0.5))
    expected = {name: t.detach().clone() for name, t in trainer.model.named_parameters()}
    for step in range(1, 13):
        trainer.step()
        decay = min(0.5, (1 + step) / (10 + step))
        for name, t in trainer.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * t.detach()
    for name, t in trainer.average.model.named_parameters():
        torch.testing.assert_close(t, expected[name], rtol=1e-4, atol=1e-6)


def test_spectral_norms_are_refreshed_once_a_step(configure, trainer_of):
    trainer = trainer_of(configure("cgan", "dense"))
    (norm,) = trainer.model.discriminator.body.stages[1].parametrizations.weight
    before, original = norm.u.clone(), trainer.model.discriminator.body.stages[1]
    trainer.step()
    assert not torch.equal(before, norm.u)
    raw = original.parametrizations.weight.original.detach()
    v = torch.nn.functional.normalize(raw.T @ before, dim=0)
    torch.testing.assert_close(norm.u, torch.nn.functional.normalize(raw @ v, dim=0))


def test_training_learns(configure, trainer_of):
    """Forty steps halve the reconstruction error of a small autoencoder."""
    trainer = trainer_of(configure("ae", "dense", optimiser__decay="constant"))
    history = [trainer.step()["pixel"] for _ in range(80)]
    assert sum(history[-5:]) < 0.85 * sum(history[:5])


# ── divergence ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_loss_that_is_not_a_number_stops_the_run(configure, trainer_of, system):
    trainer = trainer_of(configure(system))
    run(trainer, 0, 1)
    network = trainer.config.model.networks[0]
    with torch.no_grad():
        next(trainer.model.network(network).parameters()).fill_(float("nan"))
    before = {name: t.clone() for name, t in trainer.average.model.state_dict().items()}
    with pytest.raises(TrainingDiverged, match=r"is nan at step 2; lower the learning rate"):
        trainer.step()
    after = trainer.average.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trainer.progress.step == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_the_run(configure, trainer_of, value):
    trainer = trainer_of(configure("cvae-gan"))
    run(trainer, 0, 1)
    parameter = next(trainer.model.decoder.parameters())
    parameter.register_hook(lambda gradient: gradient * 0 + value)
    before = {name: t.clone() for name, t in trainer.tensors().items()}
    with pytest.raises(TrainingDiverged, match=r"decoder's gradient is (nan|inf) at step 2"):
        trainer.step()
    after = trainer.tensors()
    weights = [name for name in before if not name.startswith("optimiser/")]
    assert all(torch.equal(before[name], after[name]) for name in weights)


def test_a_phase_of_networks_that_a_system_lacks_changes_nothing(configure, trainer_of):
    turns = ScheduleConfig(kind="ratio")  # `resolve` gives an autoencoder none
    trainer = trainer_of(configure("vae").model_copy(update={"schedule": turns}))
    values = trainer.step()
    assert (values["encoder_steps"], values["decoder_steps"]) == (1, 1)
    assert trainer.progress.passes == 2

import math

import pytest
import torch
from torch import nn

from vaegan.config import OptimiserConfig
from vaegan.errors import RunError
from vaegan.model import Model
from vaegan.optimisers import (
    Average,
    TensorFlowRMSProp,
    learning_rate_share,
    load_optimisers,
    optimiser_tensors,
    optimisers,
)


def stepped(model, made, times=3):
    """Gradients from a formula, then a step, so often."""
    for time in range(times):
        for number, (name, optimiser) in enumerate(made.items()):
            for place, parameter in enumerate(model.network(name).parameters()):
                count = torch.arange(parameter.numel(), dtype=torch.float32)
                parameter.grad = (count + time + number + place).sin().view(parameter.shape)
            optimiser.step()


@pytest.mark.parametrize("system", ["ae", "cgan", "cvae-gan"])
def test_every_network_has_its_own_optimiser_and_learning_rate(configure, system):
    config = configure(
        system,
        optimiser__encoder_lr=1e-3,
        optimiser__decoder_lr=2e-3,
        optimiser__discriminator_lr=3e-3,
    )
    model = Model(config.model)
    made = optimisers(model, config.optimiser)
    assert tuple(made) == config.model.networks
    rates = {"encoder": 1e-3, "decoder": 2e-3, "discriminator": 3e-3}
    owned = [id(p) for o in made.values() for g in o.param_groups for p in g["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())  # each once, none left out
    for name, optimiser in made.items():
        assert optimiser.param_groups[0]["lr"] == rates[name]


def test_kinds_take_their_settings(configure):
    model = Model(configure("ae").model)
    settings = {"betas": (0.5, 0.9), "weight_decay": 0.01}
    adam = optimisers(model, OptimiserConfig(kind="adam", **settings))["encoder"]
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.param_groups[0]["betas"] == (0.5, 0.9)
    assert adam.param_groups[0]["weight_decay"] == 0.01
    rmsprop = optimisers(model, OptimiserConfig(kind="rmsprop", **settings))["encoder"]
    assert isinstance(rmsprop, torch.optim.RMSprop)
    assert rmsprop.param_groups[0]["alpha"] == 0.9
    tensorflow = optimisers(model, OptimiserConfig(kind="rmsprop-tensorflow", **settings))
    assert isinstance(tensorflow["encoder"], TensorFlowRMSProp)
    assert tensorflow["encoder"].param_groups[0]["decay"] == 0.9


def test_adam_by_hand():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0]))

    one = One()
    optimiser = torch.optim.AdamW(one.parameters(), 0.1, betas=(0.0, 0.99), weight_decay=0.0)
    w = v = 0.0
    w = 1.0
    for step, gradient in enumerate([0.5, -2.0, 0.1], 1):
        one.weight.grad = torch.tensor([gradient])
        optimiser.step()
        v = 0.99 * v + 0.01 * gradient**2
        w -= 0.1 * gradient / (math.sqrt(v / (1 - 0.99**step)) + 1e-8)
        assert one.weight.item() == pytest.approx(w, rel=1e-5)


def test_tensorflows_rmsprop_leaves_parameters_without_gradient_alone():
    moving, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimiser = TensorFlowRMSProp([moving, idle], lr=0.1)
    moving.grad = torch.ones(2)
    optimiser.step()
    assert idle.tolist() == [1.0, 1.0]
    assert not optimiser.state[idle]
    assert moving.tolist() == pytest.approx([0.9, 0.9])
    assert optimiser.state[moving]["square_avg"].tolist() == pytest.approx([1.0, 1.0])


# ── learning rates ───────────────────────────────────────────────────────────────────────────────


def test_cosine_decay():
    config = OptimiserConfig(decay="cosine", final_lr=0.1)
    shares = [learning_rate_share(config, p, 0) for p in (0, 0.25, 0.5, 0.75, 1)]
    cosines = [0.1 + 0.9 * (1 + math.cos(math.pi * p)) / 2 for p in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == pytest.approx(cosines)
    assert shares[0] == 1
    assert shares[2] == pytest.approx(0.55)
    assert shares[4] == pytest.approx(0.1)
    assert learning_rate_share(config, 7, 0) == pytest.approx(0.1)
    assert learning_rate_share(config, -1, 0) == 1
    assert learning_rate_share(OptimiserConfig(decay="constant"), 0.9, 0) == 1


def test_warm_up_rises_to_the_learning_rate_and_never_begins_at_zero():
    config = OptimiserConfig(warmup=3)
    shares = [learning_rate_share(config, 0, step) for step in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    both = OptimiserConfig(warmup=3, decay="cosine")
    assert learning_rate_share(both, 0.5, 1) == pytest.approx(0.25)


# ── state ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["adam", "rmsprop", "rmsprop-tensorflow"])
def test_state_goes_out_and_in_unchanged(configure, kind):
    config = configure("cvae-gan", optimiser__kind=kind)
    model = Model(config.model)
    made = optimisers(model, config.optimiser)
    assert optimiser_tensors(model, made) == {}
    stepped(model, made)
    tensors = {name: t.clone() for name, t in optimiser_tensors(model, made).items()}
    slots = {"adam": {"step", "exp_avg", "exp_avg_sq"}}.get(kind, {"square_avg"})
    found = {name.rpartition("/")[2] for name in tensors}
    assert slots <= found <= slots | {"step"}
    assert len(tensors) >= len(slots) * len(list(model.parameters()))

    twin = Model(config.model)
    twin.load_state_dict(model.state_dict())
    loaded = optimisers(twin, config.optimiser)
    load_optimisers(twin, loaded, tensors)
    again = optimiser_tensors(twin, loaded)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    stepped(model, made)
    stepped(twin, loaded)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))


def test_state_of_another_model_is_refused(configure):
    config = configure("vae")
    model = Model(config.model)
    made = optimisers(model, config.optimiser)
    stepped(model, made)
    tensors = optimiser_tensors(model, made)
    name = "decoder/body.stages.1.weight/exp_avg"
    fresh = lambda: optimisers(model, config.optimiser)
    with pytest.raises(RunError, match=f"'{name}' has shape \\(2, 2\\)"):
        load_optimisers(model, fresh(), tensors | {name: torch.zeros(2, 2)})
    with pytest.raises(RunError, match="'decoder/nobody/exp_avg' belongs to no parameter"):
        load_optimisers(model, fresh(), tensors | {"decoder/nobody/exp_avg": torch.zeros(1)})


# ── averaged weights ─────────────────────────────────────────────────────────────────────────────


def test_average_formula(configure):
    model = Model(configure("vae").model)
    average = Average(model, decay=0.9)
    weight = model.decoder.body.stages[1].weight
    mine = average.model.decoder.body.stages[1].weight
    assert torch.equal(mine, weight)
    expected = weight.detach().clone()
    for step in range(1, 101):
        with torch.no_grad():
            weight.add_(math.sin(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))  # 2/11, 3/12, ... 0.9 from step 80 on
        expected = decay * expected + (1 - decay) * weight.detach()
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)
    assert not mine.requires_grad
    assert not average.model.training


def test_average_without_decay_is_the_model(configure):
    model = Model(configure("cvae-gan", "default").model)
    average = Average(model, decay=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.discriminator.refresh()
    average.update(1)
    ours, theirs = average.model.state_dict(), model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_average_copies_running_statistics(configure):
    model = Model(configure("vae", "larsen-small").model).train()
    average = Average(model, decay=0.999)
    model.decoder(torch.randn(8, 4), None)
    average.update(1)
    ours, theirs = dict(average.model.named_buffers()), dict(model.named_buffers())
    assert any("running_mean" in name for name in theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from vaegan.config import OptimiserConfig
from vaegan.errors import RunError
from vaegan.model import Model
from vaegan.optimisers import (
    Average,
    Optimiser,
    learning_rate_share,
    load_optimisers,
    optimiser_tensors,
    optimisers,
    orthogonal,
)

KINDS = ("adam", "rmsprop", "rmsprop-tensorflow")


def stepped(model, made, times=3):
    """Gradients from a formula, then a step, so often."""
    for time in range(times):
        for number, (name, optimiser) in enumerate(made.items()):
            for place, parameter in enumerate(model.network(name).parameters()):
                count = torch.arange(parameter.numel(), dtype=torch.float32)
                parameter.grad = (count + time + number + place).sin().view(parameter.shape)
            optimiser.step(0.5)


@pytest.mark.parametrize("system", ["ae", "cgan", "cvae-gan"])
def test_every_network_has_its_own_optimiser(configure, system):
    config = configure(system)
    model = Model(config.model)
    made = optimisers(model, config.optimiser)
    assert tuple(made) == config.model.networks
    owned = [id(p) for o in made.values() for p in o.parameters.values()]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())  # each once, none left out


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_an_optimiser_is_torchs_bit_for_bit(kind, decay):
    ours, theirs = (torch.nn.Linear(5, 3) for _ in "ab")
    theirs.load_state_dict(ours.state_dict())
    config = OptimiserConfig(kind=kind, betas=(0.5, 0.9), weight_decay=decay, decoder_lr=0.1)
    mine = Optimiser(ours, "decoder", config)
    torchs = {
        "adam": lambda p: torch.optim.AdamW(p, betas=(0.5, 0.9), weight_decay=decay, fused=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, alpha=0.9, weight_decay=decay),
    }[kind](theirs.parameters())
    for time in range(5):
        for network in (ours, theirs):
            for parameter in network.parameters():
                count = torch.arange(parameter.numel(), dtype=torch.float32)
                parameter.grad = (count + 3 * time).sin().view(parameter.shape)
        share = 1 / (1 + time)
        torchs.param_groups[0]["lr"] = 0.1 * share
        mine.step(share)
        torchs.step()
    for one, other in zip(ours.parameters(), theirs.parameters()):
        assert torch.equal(one, other)


def test_adam_by_hand():
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    config = OptimiserConfig(kind="adam", betas=(0.0, 0.99), encoder_lr=0.1)
    optimiser = Optimiser(network, "encoder", config)
    w, v = 1.0, 0.0
    for step, gradient in enumerate([0.5, -2.0, 0.1], 1):
        network.weight.grad = torch.tensor([[gradient]])
        optimiser.step()
        v = 0.99 * v + 0.01 * gradient**2
        w -= 0.1 * gradient / (math.sqrt(v / (1 - 0.99**step)) + 1e-8)
        assert network.weight.item() == pytest.approx(w, rel=1e-5)


def test_muon_is_torchs_on_matrices():
    """Torch's computes the orthogonal matrix in bfloat16: to three digits."""
    ours, theirs = (nn.Linear(24, 40, bias=False) for _ in "ab")
    theirs.load_state_dict(ours.state_dict())
    config = OptimiserConfig(muon=("encoder",), muon_lr=0.1, encoder_lr=0.2, weight_decay=0.3)
    mine = Optimiser(ours, "encoder", config)
    torchs = torch.optim.Muon(theirs.parameters(), lr=0.1, weight_decay=0.3, nesterov=True)
    for time in range(4):
        for network in (ours, theirs):
            count = torch.arange(24 * 40, dtype=torch.float32)
            network.weight.grad = (count**2 + time).sin().view(40, 24)
        mine.step()
        torchs.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=5e-3)
    assert (ours.weight - theirs.weight).norm() < 0.02 * theirs.weight.norm()


def newton_schulz(matrix, steps=5):
    """The plain version: five steps on the matrix itself."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / matrix.norm()
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 8), (40, 12), (12, 40), (128, 2058)])
@pytest.mark.parametrize("smallest", [1e-1, 1e-4])
def test_orthogonal_by_singular_values_and_plain_steps(shape, smallest):
    own = torch.Generator().manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(2, *shape, generator=own), full_matrices=False)
    matrices = u * torch.linspace(1, smallest, s.shape[1]) @ v
    found = orthogonal(matrices)
    assert found.shape == matrices.shape
    for one, left, right, matrix in zip(found, u, v, matrices):
        plain = newton_schulz(matrix.double()).float()
        torch.testing.assert_close(one, plain, rtol=0, atol=2e-4)
        inside = left.T @ one @ right.T  # diagonal: the singular vectors stay
        assert (inside - inside.diag().diag()).abs().max() < 2e-3
        most = inside.diag()[matrix.norm() * 1e-2 < torch.linspace(1, smallest, s.shape[1])]
        assert most.min() > 0.6 and most.max() < 1.25


def test_muon_moves_matrices_of_its_networks_and_adam_all_else(configure):
    config = configure("cvae-gan", "default", optimiser__muon=("decoder",))
    made = optimisers(Model(config.model), config.optimiser)
    rules = {network: optimiser.rules for network, optimiser in made.items()}
    assert set(rules["encoder"].values()) == set(rules["discriminator"].values()) == {"adam"}
    parameters = made["decoder"].parameters
    assert set(rules["decoder"].values()) == {"adam", "muon"}
    for name, rule in rules["decoder"].items():
        vector = parameters[name].ndim < 2
        small = not vector and min(parameters[name].flatten(1).shape) < 8
        assert (rule == "adam") == (vector or small)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_without_gradient_are_left_alone(kind):
    network = nn.Linear(2, 1)
    before = network.bias.item()
    optimiser = Optimiser(network, "encoder", OptimiserConfig(kind=kind))
    network.weight.grad = torch.ones(1, 2)
    optimiser.step()
    assert network.bias.item() == before
    assert set(optimiser.memory) == {"weight"}
    optimiser.zero_grad()
    assert network.weight.grad is None


def test_optimisers_do_not_import_the_compiler():
    """It takes as long as the rest of torch, and nothing here is compiled."""
    program = (
        "import sys, torch\n"
        "from vaegan.config import OptimiserConfig\n"
        "from vaegan.optimisers import Optimiser\n"
        "network = torch.nn.Linear(1, 1)\n"
        "network(torch.ones(1, 1)).sum().backward()\n"
        "for kind in ('adam', 'rmsprop', 'rmsprop-tensorflow'):\n"
        "    Optimiser(network, 'encoder', OptimiserConfig(kind=kind)).step()\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


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


@pytest.mark.parametrize("system", ["vae-gan", "gan"])
def test_state_of_networks_with_empty_parameters_goes_out_and_in(configure, system):
    """Without labels, tables of labels have no rows, and never a gradient."""
    networks = ("encoder", "decoder", "discriminator")
    config = configure(system, "default", optimiser__muon=networks)
    model = Model(config.model)
    assert any(parameter.numel() == 0 for parameter in model.parameters())
    made = optimisers(model, config.optimiser)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.numel() else None
    for optimiser in made.values():
        optimiser.step()
    tensors = optimiser_tensors(made)
    loaded = optimisers(model, config.optimiser)
    load_optimisers(loaded, tensors)
    again = optimiser_tensors(loaded)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("kind", [*KINDS, "muon"])
def test_state_goes_out_and_in_unchanged(configure, kind):
    settings = {"optimiser__kind": kind}
    if kind == "muon":  # for matrices; the rest needs another
        settings = {"optimiser__muon": ("encoder", "decoder", "discriminator")}
    config = configure("cvae-gan", **settings)
    model = Model(config.model)
    made = optimisers(model, config.optimiser)
    assert optimiser_tensors(made) == {}
    stepped(model, made)
    tensors = {name: t.clone() for name, t in optimiser_tensors(made).items()}
    found = {name.rpartition("/")[2] for name in tensors}
    adams = {"step", "exp_avg", "exp_avg_sq"}
    assert (
        found
        == {
            "adam": adams,
            "rmsprop": {"square_avg", "step"},
            "rmsprop-tensorflow": {"square_avg"},
            "muon": adams | {"momentum"},
        }[kind]
    )
    remembered = {name.rpartition("/")[0] for name in tensors}
    assert len(remembered) == len(list(model.parameters()))

    twin = Model(config.model)
    twin.load_state_dict(model.state_dict())
    loaded = optimisers(twin, config.optimiser)
    load_optimisers(loaded, tensors)
    again = optimiser_tensors(loaded)
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
    tensors = optimiser_tensors(made)
    name = "decoder/body.stages.1.weight/exp_avg"
    fresh = lambda: optimisers(model, config.optimiser)
    with pytest.raises(RunError, match=f"'{name}' has shape \\(2, 2\\)"):
        load_optimisers(fresh(), tensors | {name: torch.zeros(2, 2)})
    with pytest.raises(RunError, match="'decoder/nobody/exp_avg' belongs to no parameter"):
        load_optimisers(fresh(), tensors | {"decoder/nobody/exp_avg": torch.zeros(1)})
    del tensors[name]
    with pytest.raises(RunError, match=f"'{name}' is missing"):
        load_optimisers(fresh(), tensors)


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

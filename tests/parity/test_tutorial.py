"""The tutorial's program, written a second time in NumPy from its text, layer by layer.

Keras' conventions throughout: NHWC, kernels (k, k, in, out), `padding="same"`, LeakyReLU 0.3,
UpSampling2D by repetition; TensorFlow 1's RMSProp. Dropout is off in both programs.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vaegan.config import OptimiserConfig
from vaegan.data.batches import Batch
from vaegan.draws import Draws
from vaegan.model import Model
from vaegan.objectives import Objective
from vaegan.optimisers import Optimiser
from vaegan.schedules import EVERYONE

BATCH, LATENT, CLASSES, SIZE = 2, 8, 10, 28
LABELS = np.array([3, 7])


# ── numbers from a formula ───────────────────────────────────────────────────────────────────────


def numbers(count: int, phase: float) -> np.ndarray:
    """`count` numbers in [-1, 1) without a generator: the fractional part of a large sine."""
    k = np.arange(count, dtype=np.float64)
    return 2 * ((np.sin(12.9898 * k + phase) * 43758.5453) % 1.0) - 1


def kernel(phase: float, *shape: int, times: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weights of `times` Glorot's size and biases that are not zero."""
    receptive = math.prod(shape[:-2])
    limit = times * math.sqrt(6 / (receptive * (shape[-2] + shape[-1])))
    weight = limit * numbers(math.prod(shape), phase).reshape(shape)
    return weight, 0.05 * numbers(shape[-1], phase + 0.5)


WEIGHTS = {
    "encoder": [
        kernel(1, 3, 3, 1, 32),
        kernel(2, 3, 3, 32, 64),
        kernel(3, 7 * 7 * 64 + CLASSES, 64),
        kernel(4, 64, LATENT, times=4),
        kernel(5, 64, LATENT, times=20),  # beyond both clips
    ],
    "decoder": [
        kernel(6, LATENT + CLASSES, 7 * 7 * 128),
        kernel(7, 5, 5, 128, 64),
        kernel(8, 3, 3, 64, 32),
        kernel(9, 5, 5, 32, 1),
    ],
    "discriminator": [
        kernel(10, 7, 7, 1, 128),
        kernel(11, 3, 3, 128 + CLASSES, 64),
        kernel(12, 3, 3, 64, 16),
        kernel(13, 4 * 4 * 64, 1, times=5),
    ],
}
IMAGES = (numbers(BATCH * SIZE * SIZE, 20).reshape(BATCH, SIZE, SIZE, 1) + 1) / 2
EPSILON, Z_PRIOR = (2 * numbers(BATCH * LATENT, p).reshape(BATCH, LATENT) for p in (21, 22))
ONE_HOT = np.eye(CLASSES)[LABELS]


# ── the tutorial in NumPy ────────────────────────────────────────────────────────────────────────


def same(size: int, k: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(size / stride) - 1) * stride + k - size, 0)
    return total // 2, total - total // 2


def conv(x, weights, stride=1):
    w, b = weights
    k, out = w.shape[0], math.ceil(x.shape[1] / stride)
    pads = same(x.shape[1], k, stride)
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)))
    y = np.zeros((len(x), out, out, w.shape[3])) + b
    for i in range(k):
        for j in range(k):
            window = x[:, i : i + stride * out : stride, j : j + stride * out : stride]
            y += np.einsum("bhwi,io->bhwo", window, w[i, j])
    return y


def dense(x, weights):
    return x @ weights[0] + weights[1]


def leaky(x):
    return np.where(x > 0, x, 0.3 * x)


def max_pool(x):
    pads = same(x.shape[1], 2, 2)
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=-np.inf)
    return np.maximum.reduce([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def upsample(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def encoder(x, labels, w):
    x = max_pool(leaky(conv(x, w[0], 2)))
    x = leaky(conv(x, w[1]))
    x = np.concatenate([x.reshape(len(x), -1), labels], axis=1)
    h = leaky(dense(x, w[2]))
    return dense(h, w[3]), dense(h, w[4])


def decoder(z, labels, w):
    x = leaky(dense(np.concatenate([z, labels], axis=1), w[0]))
    x = upsample(x.reshape(-1, 7, 7, 128))
    x = leaky(conv(x, w[1]))
    x = leaky(upsample(conv(x, w[2])))
    return sigmoid(conv(x, w[3]))


def discriminator(x, labels, w):
    x = leaky(max_pool(conv(x, w[0], 2)))
    maps = np.broadcast_to(labels[:, None, None], (len(x), 7, 7, CLASSES))
    x = leaky(max_pool(conv(np.concatenate([x, maps], axis=3), w[1])))
    metric = conv(x, w[2])
    return sigmoid(dense(leaky(x).reshape(len(x), -1), w[3])), metric


def losses(weights=WEIGHTS) -> dict[str, float]:
    """`L_prior`, `L_dis_llike` and `L_GAN` as the tutorial's text defines them."""
    mean, log_var = encoder(IMAGES, ONE_HOT, weights["encoder"])
    z = mean + np.exp(np.clip(log_var / 2, -2, 2)) * EPSILON
    decoded, from_prior = (decoder(c, ONE_HOT, weights["decoder"]) for c in (z, Z_PRIOR))
    (d, l_real), (d_decoded, l_decoded), (d_prior, _) = (
        discriminator(x, ONE_HOT, weights["discriminator"]) for x in (IMAGES, decoded, from_prior)
    )
    clipped = np.clip(log_var, -2, 2)
    prior = -0.5 * np.sum(1 + clipped - mean**2 - np.exp(clipped)) / 28 / 28
    log_d = np.log(d + 1e-10)
    log_prior, log_decoded = np.log(1 - d_prior + 1e-10), np.log(1 - d_decoded + 1e-10)
    gan = -1 / 4 * np.sum(log_d + 2 * log_prior + log_decoded) / 28 / 28
    target = sigmoid(l_real)  # sigmoid_cross_entropy_with_logits(labels, logits)
    entropy = np.maximum(l_decoded, 0) - l_decoded * target + np.log1p(np.exp(-np.abs(l_decoded)))
    llike = np.sum(entropy) / 28 / 28
    return {
        "L_prior": prior,
        "L_dis_llike": llike,
        "L_GAN": gan,
        "L_enc": llike + prior,
        "L_dec": llike - gan,
        "real": -1 / 4 * np.sum(log_d) / 28 / 28,
    }


# ── ours, with the same numbers ──────────────────────────────────────────────────────────────────


def loaded(configure) -> Model:
    """The recipe `tutorial`, its weights those above: transposed, and vectors from HWC to CHW."""
    model = Model(configure("cvae-gan", "tutorial", size=28, classes=10, latent_dim=8).model)
    chw = lambda h, c: np.arange(h * h * c).reshape(h, h, c).transpose(2, 0, 1).ravel()
    state = {}
    for network, weights in WEIGHTS.items():
        names = [n for n in getattr(model, network).state_dict() if n.endswith("weight")]
        for name, (weight, bias) in zip(names, weights, strict=True):
            if weight.ndim == 4:
                weight = weight.transpose(3, 2, 0, 1)
            else:
                rows, columns = np.arange(len(weight)), np.arange(weight.shape[1])
                if network == "encoder" and len(weight) == 7 * 7 * 64 + CLASSES:
                    rows[:-CLASSES] = chw(7, 64)
                if network == "discriminator":
                    rows = chw(4, 64)
                if network == "decoder":
                    columns = chw(7, 128)
                weight, bias = weight[rows][:, columns].T, bias[columns]
            state[f"{network}.{name}"] = torch.tensor(weight, dtype=torch.float32)
            bias_name = f"{network}.{name.removesuffix('weight')}bias"
            state[bias_name] = torch.tensor(bias, dtype=torch.float32)
    model.load_state_dict(state)
    return model


def evaluated(configure):
    model = loaded(configure).eval()
    objective = Objective(model, configure("cvae-gan", "tutorial").objective)
    to = lambda array: torch.tensor(array, dtype=torch.float32)
    batch = Batch(to(IMAGES.transpose(0, 3, 1, 2)), torch.from_numpy(LABELS))
    draws = Draws(
        posterior=to(EPSILON),
        prior=to(Z_PRIOR),
        hop=torch.ones(BATCH, dtype=torch.int64),
        shift=torch.zeros(BATCH, 2),
        tears=torch.zeros(BATCH, 4),
        pixels=None,
    )
    return model, objective(batch, draws, EVERYONE)


# ── tests ────────────────────────────────────────────────────────────────────────────────────────


def test_weights_are_all_of_them():
    counts = {name: sum(w.size + b.size for w, b in ws) for name, ws in WEIGHTS.items()}
    assert counts == {"encoder": 221_264, "decoder": 343_297, "discriminator": 96_209}


def test_every_loss_equals_the_tutorials(configure):
    _, evaluation = evaluated(configure)
    ours, theirs = evaluation.values, losses()
    assert ours["kl"] == pytest.approx(theirs["L_prior"], rel=1e-5)
    assert ours["similarity"] == pytest.approx(theirs["L_dis_llike"], rel=1e-5)
    assert ours["gan"] == pytest.approx(theirs["L_GAN"], rel=1e-5)
    assert ours["encoder_loss"] == pytest.approx(theirs["L_enc"], rel=1e-5)
    assert ours["discriminator_loss"] == pytest.approx(theirs["L_GAN"], rel=1e-5)
    # The tutorial's decoder also carries the term of the real images, which it cannot change.
    assert ours["decoder_loss"] == pytest.approx(theirs["L_dec"] + theirs["real"], rel=1e-5)
    assert evaluation.costs.gan == pytest.approx(theirs["L_GAN"], rel=1e-5)


def test_the_losses_are_these_numbers():
    """Pinned, so that neither program can drift and take the other along."""
    values = losses()
    assert values["L_prior"] == pytest.approx(0.019118295497, rel=1e-9)
    assert values["L_dis_llike"] == pytest.approx(0.451784234930, rel=1e-9)
    assert values["L_GAN"] == pytest.approx(0.001552069287, rel=1e-9)


@pytest.mark.parametrize(
    ("network", "layer", "loss"),
    [("encoder", 3, "L_enc"), ("decoder", 3, "L_dec"), ("discriminator", 3, "L_GAN")],
)
def test_gradients_equal_finite_differences_of_the_tutorials_losses(
    configure, network, layer, loss
):
    model, evaluation = evaluated(configure)
    evaluation.backward(model, EVERYONE)
    step = 1e-4

    def at(change):
        weights = {name: list(layers) for name, layers in WEIGHTS.items()}
        weight, bias = weights[network][layer]
        bias = bias.copy()
        bias[0] += change
        weights[network][layer] = weight, bias
        return losses(weights)[loss]

    expected = (at(step) - at(-step)) / (2 * step)
    biases = [p for n, p in model.network(network).named_parameters() if n.endswith("bias")]
    assert biases[layer].grad[0].item() == pytest.approx(expected, rel=1e-3)


def tensorflow(network: torch.nn.Module, lr: float) -> Optimiser:
    """TensorFlow's RMSProp."""
    config = OptimiserConfig(kind="rmsprop-tensorflow", betas=(0.0, 0.9), encoder_lr=lr)
    return Optimiser(network, "encoder", config)


def parameter(values: list[float]) -> tuple[torch.nn.Module, torch.nn.Parameter]:
    """A network of one parameter, and the parameter."""
    network = torch.nn.Module()
    network.weight = torch.nn.Parameter(torch.tensor(values))
    return network, network.weight


def test_tensorflows_rmsprop_by_hand():
    """Three steps on paper: v starts at 1, decay 0.9, epsilon 1e-10 inside the root."""
    network, weight = parameter([1.0, -2.0])
    optimiser = tensorflow(network, 0.1)
    gradients = ([0.5, 0.0], [-1.0, 2.0], [0.25, 100.0])
    w, v = [1.0, -2.0], [1.0, 1.0]
    seen = []
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimiser.step()
        for i, g in enumerate(gradient):
            v[i] = 0.9 * v[i] + 0.1 * g * g
            w[i] -= 0.1 * g / math.sqrt(v[i] + 1e-10)
        seen.append(weight.detach().tolist())
        assert seen[-1] == pytest.approx(w, rel=1e-6)
    # v: 0.925, 0.9325, 0.8455; w: 1 - 0.05/0.961769, + 0.1/0.965660, - 0.025/0.919511
    assert seen[0][0] == pytest.approx(0.948012, abs=1e-6)
    assert seen[1][0] == pytest.approx(1.051568, abs=1e-6)
    assert seen[2][0] == pytest.approx(1.024380, abs=1e-6)


def test_a_fresh_rmsprop_of_tensorflow_takes_small_first_steps():
    """PyTorch's, whose v starts at 0, moves lr / sqrt(0.1) at once; TensorFlow's lr * g."""
    network, ours = parameter([0.0])
    theirs = torch.nn.Parameter(torch.zeros(1))
    for weight in (ours, theirs):
        weight.grad = torch.tensor([1e-3])
    tensorflow(network, 1.0).step()
    torch.optim.RMSprop([theirs], lr=1.0, alpha=0.9).step()
    assert ours.item() == pytest.approx(-1e-3 / math.sqrt(0.9), rel=1e-4)
    assert theirs.item() == pytest.approx(-1 / math.sqrt(0.1), rel=1e-3)

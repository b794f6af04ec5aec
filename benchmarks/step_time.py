"""One outer iteration of the tutorial's recipe, ours against plain PyTorch, side by side."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegan.data import load_dataset
from vaegan.settings import resolve
from vaegan.training import trainer_for

LATENT, CLASSES, BATCH = 8, 10, 64


def act() -> list[nn.Module]:
    return [nn.LeakyReLU(0.3), nn.Dropout(0.3)]


class Encoder(nn.Module):
    """The tutorial's encoder, the obvious way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(1, 32, 3, stride=2),
            *act(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            *act(),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(nn.Linear(64 * 49 + CLASSES, 64), *act())
        self.mean, self.logvar = nn.Linear(64, LATENT), nn.Linear(64, LATENT)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        h = self.dense(torch.cat([self.conv(x), y], 1))
        return self.mean(h), self.logvar(h)


class Decoder(nn.Module):
    """The tutorial's decoder, the obvious way."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(LATENT + CLASSES, 49 * 128), *act())
        self.conv = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 5, padding=2),
            *act(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Upsample(scale_factor=2),
            *act(),
            nn.Conv2d(32, 1, 5, padding=2),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.conv(self.dense(torch.cat([z, y], 1)).view(-1, 128, 7, 7))


class Discriminator(nn.Module):
    """The tutorial's discriminator, the obvious way."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.ZeroPad2d((2, 3, 2, 3)), nn.Conv2d(1, 128, 7, stride=2), nn.MaxPool2d(2), *act()
        )
        self.second = nn.Sequential(
            nn.Conv2d(128 + CLASSES, 64, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), *act()
        )
        self.metric = nn.Conv2d(64, 16, 3, padding=1)
        self.last = nn.Sequential(*act(), nn.Flatten(), nn.Linear(64 * 16, 1))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        maps = y[:, :, None, None].expand(-1, -1, 7, 7)
        h = self.second(torch.cat([self.first(x), maps], 1))
        return self.last(h), self.metric(h)


def plain_iteration() -> Callable[[Tensor, Tensor], None]:
    """One outer iteration as anybody would write it: a pass of its own for every loss."""
    encoder, decoder, discriminator = Encoder(), Decoder(), Discriminator()
    optimisers = [
        torch.optim.RMSprop(network.parameters(), lr, alpha=0.9)
        for network, lr in ((encoder, 1e-3), (decoder, 3e-4), (discriminator, 1e-3))
    ]

    def reconstruct(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = encoder(x, y)
        kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum() / 784
        return decoder(mean + torch.randn_like(mean) * (0.5 * logvar).exp(), y), kl

    def gan(x: Tensor, rebuilt: Tensor, sampled: Tensor, y: Tensor) -> Tensor:
        real, fake, prior = (discriminator(image, y)[0] for image in (x, rebuilt, sampled))
        total = F.softplus(-real) + 2 * F.softplus(prior) + F.softplus(fake)
        return 0.25 * total.sum() / 784

    def similarity(x: Tensor, rebuilt: Tensor, y: Tensor) -> Tensor:
        real, fake = discriminator(x, y)[1], discriminator(rebuilt, y)[1]
        return (
            F.binary_cross_entropy_with_logits(fake, real.detach().sigmoid(), reduction="sum") / 784
        )

    def update(place: int, loss: Tensor) -> None:
        optimisers[place].zero_grad()
        loss.backward()
        optimisers[place].step()

    def iteration(x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            rebuilt, sampled = reconstruct(x, y)[0], decoder(torch.randn(BATCH, LATENT), y)
        update(2, gan(x, rebuilt, sampled, y))
        for _ in range(3):
            rebuilt, kl = reconstruct(x, y)
            update(0, similarity(x, rebuilt, y) + kl)
            rebuilt, _ = reconstruct(x, y)
            sampled = decoder(torch.randn(BATCH, LATENT), y)
            update(1, similarity(x, rebuilt, y) - gan(x, rebuilt, sampled, y))

    return iteration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    dataset = load_dataset(options.data)
    contenders: dict[str, Callable[[], object]] = {}
    images = torch.from_numpy(dataset.train.pixels[:BATCH]).permute(0, 3, 1, 2).float() / 255
    assert dataset.train.labels is not None
    onehot = F.one_hot(torch.from_numpy(dataset.train.labels[:BATCH]), CLASSES).float()
    plain = plain_iteration()
    contenders["plain PyTorch, fp32"] = lambda: plain(images, onehot)
    for precision in ("fp32", "bf16"):
        config = resolve(dataset, recipe="tutorial", precision=precision)
        contenders[f"vaegan, {precision}"] = trainer_for(config, dataset).step

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for lap in range(options.rounds + 2):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if lap >= 2:
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(laps) for name, laps in times.items()}
    base = medians["plain PyTorch, fp32"]
    print(f"one outer iteration (1 D + 3 ED), batch {BATCH}, {options.threads} threads")
    for name, seconds in medians.items():
        print(f"{name:<22} {seconds:7.3f} s   {base / seconds:5.2f} x plain")
    result = {
        "torch": torch.__version__,
        "threads": options.threads,
        "rounds": options.rounds,
        "median_seconds": medians,
        "times_plain": {name: base / seconds for name, seconds in medians.items()},
        "tensorflow_seconds_published": [0.73, 0.77],
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""The trained thing: images in, latents out, and back, under any label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from vaegan import layers, norms
from vaegan.batching import Results, in_batches
from vaegan.config import FORMAT_VERSION, ModelConfig, NetworkName, read_config, validated
from vaegan.errors import DataError, RunError, Unsupported
from vaegan.networks import Decoder, Discriminator, Encoder
from vaegan.posterior import Posterior
from vaegan.pretrained import NAMES, shipped
from vaegan.randomness import latents_of_seeds, seeded

__all__ = ["Model"]


class Model(nn.Module):
    """Encoder, decoder and discriminator of one system, and everything they can do together.

    Images are float (B, C, H, W) in [0, 1]; labels int64 (B,), None for an unconditional model;
    latents float (B, latent_dim). They are moved to the model's `device`, where results are.

    All methods but `encode(...).sample()` are deterministic in eval mode, which is the mode a
    loaded model is in. There, B is as large as you like: without
    autograd the networks run on a batch at a time, and beside the result no more is held. `encode`
    and `decode` record gradients unless called under `torch.no_grad()`; the others never do.
    """

    encoder: Encoder | None
    decoder: Decoder
    discriminator: Discriminator | None

    def __init__(self, config: ModelConfig, seed: int = 0):
        super().__init__()
        self.config = config
        arch = config.architecture
        with seeded(seed, "initial weights"):
            self.encoder = Encoder(config) if "encoder" in config.networks else None
            self.decoder = Decoder(config)
            self.discriminator = (
                Discriminator(config) if "discriminator" in config.networks else None
            )
            for network in (self.encoder, self.decoder, self.discriminator):
                if network is not None:
                    layers.initialise(network, arch.initial)
            if self.discriminator is not None and arch.spectral_norm:
                norms.normalise_spectrally(self.discriminator)
        # Channels-last is the fastest layout for convolutions, on CPUs and on GPUs.
        self.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def network(self, name: NetworkName) -> nn.Module:
        """A network by name; Unsupported when the system has none of that name."""
        network = getattr(self, name)
        if network is None:
            raise Unsupported(f"system {self.config.system!r} has no {name}")
        return network

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.decoder.parameters()).device

    # ── files ────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: str | torch.device = "cpu") -> Model:
        """Load config.json and model.safetensors from a directory, a run's for example.

        `mnist`, where no run of that name lies here, is the model that comes with the package.
        Raises RunError when a file is missing or its tensors are not those the config implies.
        """
        from vaegan.files import read_tensors

        directory = shipped(directory) or Path(directory)
        path = directory / "config.json"
        if not path.is_file():
            why = "config.json is missing" if directory.is_dir() else "there is no such folder"
            raise RunError(
                f"{directory} holds no model: {why}; {', '.join(NAMES)} comes with the package"
            )
        tree = read_config(path)
        config = validated(ModelConfig, tree["model"], str(path))
        model = cls(config)
        weights = directory / "model.safetensors"
        if not weights.is_file():
            raise RunError(f"{directory} has no model.safetensors yet: train it first")
        model.load_state_dict(read_tensors(weights, model.state_dict()))
        return model.to(device).eval()

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors, which `from_pretrained` reads back."""
        from vaegan.files import write_json, write_tensors

        directory = Path(directory)
        config = directory / "config.json"
        if config.is_file() and "recipe" in read_config(config):
            raise RunError(f"{directory} is a run, which holds its model already")
        directory.mkdir(parents=True, exist_ok=True)
        write_json(
            config,
            {"format_version": FORMAT_VERSION, "model": self.config.model_dump(mode="json")},
        )
        write_tensors(directory / "model.safetensors", self.state_dict())

    # ── the two directions ───────────────────────────────────────────────────────────────────

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Posterior:
        """Images (B,C,H,W), labels (B,) -> posterior over latents.

        Raises Unsupported for a GAN, DataError for images of another shape or, in eval mode, with
        values outside [0, 1] (which on a GPU are not looked at), and for missing labels.
        """
        if self.encoder is None:
            raise Unsupported(
                f"system {self.config.system!r} has no encoder: it can sample, but not encode or "
                "reconstruct; train `vae-gan` or `cvae-gan` for both"
            )
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = images.dtype if hasattr(images, "dtype") else type(images).__name__
            raise DataError(f"images are {kind}; give a tensor of floats in [0, 1] (see to_images)")
        if images.ndim != 4 or tuple(images.shape[1:]) != self.config.image_shape:
            raise DataError(
                f"images have shape {tuple(images.shape)}; this model takes (B, "
                f"{', '.join(map(str, self.config.image_shape))})"
            )
        if not (self.training or torch.compiler.is_compiling()) and images.is_cpu and len(images):
            low, high = images.detach().aminmax()
            if not (low >= 0 and high <= 1):
                raise DataError(
                    f"images hold {float(low):g} to {float(high):g}; give values in [0, 1] "
                    "(see to_images)"
                )
        labels = self._checked(labels, len(images))
        mean, logvar = self._run(self.encoder, images, labels)
        assert mean is not None
        return Posterior(mean, logvar, self.config.logvar_limit, self.config.kl_logvar_limit)

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_dim), labels (B,) -> images (B,C,H,W) in [0,1]."""
        self._shaped(latents)

        def decoded(latents: Tensor, labels: Tensor | None) -> tuple[Tensor]:
            return (self.decoder(latents, labels).sigmoid(),)

        (images,) = self._run(decoded, latents, self._checked(labels, len(latents)))
        assert images is not None
        return images

    @torch.no_grad()
    def prior_latents(
        self, normal: Tensor, labels: Tensor | None = None, temperature: float | None = None
    ) -> Tensor:
        """Draws (B, latent_dim) from N(0, I), labels (B,) -> latents drawn from the model's prior.

        The same numbers where the prior is N(0, I); where it was fitted to the codes, close draws
        give close latents, and 0 lies in their middle. They are multiplied by the temperature
        first, by default the model's (Kingma & Dhariwal 2018, section 6). Raises what `decode`
        raises.
        """
        self._shaped(normal)
        if temperature is None:
            temperature = self.config.temperature if self.decoder.prior.learned else 1.0

        def drawn(normal: Tensor, labels: Tensor | None) -> tuple[Tensor]:
            return (self.decoder.prior(normal * temperature, labels),)

        (latents,) = self._run(drawn, normal, self._checked(labels, len(normal)))
        assert latents is not None
        return latents

    def _run(self, work: Callable[..., Results], *rows: Tensor | None) -> Results:
        """One pass where autograd or batch statistics want it, else a batch at a time; on the
        model's device, wherever the rows are.
        """

        def here(*rows: Tensor | None) -> Results:
            return work(*(None if part is None else part.to(self.device) for part in rows))

        if torch.is_grad_enabled() or self.training:
            return here(*rows)
        return in_batches(here, *rows)

    # ── what people ask of it ────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def embed(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Posterior means (B, latent_dim)."""
        return self.encode(images, labels).mode()

    @torch.no_grad()
    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """decode(encode(x).mode()): the same images every time, (B,C,H,W)."""
        return self.decode(self.embed(images, labels), labels)

    @torch.no_grad()
    def transfer(self, images: Tensor, labels: Tensor, to_labels: Tensor) -> Tensor:
        """Render each image's style under another label, decode(encode(x, y).mode(), y')."""
        if not self.config.num_classes:
            raise Unsupported(
                f"system {self.config.system!r} has no labels to transfer between; train `cvae-gan`"
            )
        return self.decode(self.embed(images, labels), to_labels)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        label: int | None = None,
        generator: torch.Generator | None = None,
        *,
        seed: int = 0,
        temperature: float | None = None,
    ) -> Tensor:
        """N draws from the prior at a temperature, decoded under `label`, (n,C,H,W).

        Without a generator, draw i is a function of seed + i alone: seed 7 is the same picture in
        any batch, to the rounding of the convolutions. `label` None means no label, or for a
        conditional model all classes in turn: class seed mod K for the draw of a seed.
        """
        if n < 0:
            raise DataError(f"cannot draw {n} samples")
        seeds = range(seed, seed + n)
        labels = self.labels_of_samples(seeds, label)
        if generator is not None:
            shape = (n, self.config.latent_dim)
            latents = torch.randn(shape, generator=generator, device=generator.device)
        else:
            latents = latents_of_seeds(seeds, self.config.latent_dim)
        latents = self.prior_latents(latents, labels, temperature)
        return self.decode(latents, labels)

    def labels_of_samples(self, seeds: range, label: int | None = None) -> Tensor | None:
        """Labels (len(seeds),) of `sample`'s images of these seeds, None without labels.

        Raises Unsupported for an autoencoder, and for a label where the model has none.
        """
        system, classes = self.config.system, self.config.num_classes
        if self.config.family == "ae":
            raise Unsupported(
                f"system {system!r} has no prior to sample from; train `vae` or `gan`"
            )
        if not classes:
            if label is not None:
                raise Unsupported(f"system {system!r} has no labels: leave `label` out")
            return None
        if label is None:
            return torch.tensor([seed % classes for seed in seeds], dtype=torch.int64)
        return self._checked(torch.full((len(seeds),), label), len(seeds))

    @torch.no_grad()
    def interpolate(
        self, start: Tensor, end: Tensor, steps: int = 10, label: int | None = None
    ) -> Tensor:
        """Decode on the straight line between latents (latent_dim,), ends included, (steps,...)."""
        if start.shape != (self.config.latent_dim,) or end.shape != start.shape:
            raise DataError(
                f"interpolate takes two latents of shape ({self.config.latent_dim},), got "
                f"{tuple(start.shape)} and {tuple(end.shape)}; embed images first"
            )
        share = torch.linspace(0, 1, steps, device=self.device)[:, None]
        latents = start.to(self.device) * (1 - share) + end.to(self.device) * share
        labels = None if label is None else torch.full((steps,), label)
        return self.decode(latents, labels)

    @torch.no_grad()
    def manifold(
        self, label: int | None = None, n: int = 15, dims: tuple[int, int] | None = None
    ) -> Tensor:
        """N x n images over two dimensions of the prior at the normal quantiles 0.05 .. 0.95.

        The other dimensions are 0; the `prior_latents` of these, at temperature 1, are decoded. The
        second of `dims` varies down the rows, the first along them; the first two when left out,
        and a single one along the rows. Returns (n*n, C, H, W), row by row.
        """
        size = self.config.latent_dim
        dims = (0, min(1, size - 1)) if dims is None else dims
        if min(dims) < 0 or max(dims) >= size or (dims[0] == dims[1] and size > 1):
            raise Unsupported(f"latent dimensions {dims} do not exist: latent_dim is {size}")
        quantiles = torch.special.ndtri(torch.linspace(0.05, 0.95, n, dtype=torch.float64))
        down, along = torch.meshgrid(quantiles, quantiles, indexing="ij")
        latents = torch.zeros(n * n, size)
        latents[:, dims[1]] = down.flatten().float()
        latents[:, dims[0]] = along.flatten().float()
        labels = None
        if self.config.num_classes or label is not None:
            labels = torch.full((n * n,), label or 0)
        return self.decode(self.prior_latents(latents, labels, 1.0), labels)

    # ── guards ───────────────────────────────────────────────────────────────────────────────

    def _shaped(self, latents: Tensor) -> None:
        """Raise DataError unless latents are (B, latent_dim)."""
        if latents.ndim != 2 or latents.shape[1] != self.config.latent_dim:
            raise DataError(
                f"latents have shape {tuple(latents.shape)}; "
                f"this model takes (B, {self.config.latent_dim})"
            )

    def _checked(self, labels: Tensor | None, count: int) -> Tensor | None:
        """Labels as the networks want them, or a DataError that says what is wrong."""
        classes = self.config.num_classes
        if not classes:
            if labels is not None:
                raise DataError(f"system {self.config.system!r} takes no labels: leave them out")
            return None
        if labels is None:
            raise DataError(f"system {self.config.system!r} needs labels, one per image")
        if not isinstance(labels, Tensor):
            raise DataError(f"labels are {type(labels).__name__}; give an int64 tensor ({count},)")
        if labels.shape != (count,) or labels.dtype != torch.int64:
            raise DataError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give int64 ({count},)"
            )
        if not torch.compiler.is_compiling() and labels.device.type == "cpu" and count:
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= classes:
                raise DataError(
                    f"label {low if low < 0 else high} is out of range: this model's labels "
                    f"are 0 to {classes - 1}"
                )
        return labels.to(self.device)

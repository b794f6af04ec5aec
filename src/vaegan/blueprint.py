"""Networks as text: one line a layer, read top to bottom like the figure in a paper. No torch here.

A network is a tuple of lines. Each line is a word and its arguments:

    conv C kK [sS]      K x K convolution to C channels, stride S (default 1), "same" padding
    deconv C kK         fractionally strided convolution to C channels, twice the size
    up 2                nearest-neighbour upsampling
    maxpool 2, avgpool 2
    flatten             (C, H, W) -> (C*H*W,)
    sum                 (C, H, W) -> (C,), summed over the grid
    dense N             linear layer
    grid C /F           linear layer, then (C, H/F, W/F) of the image's H and W
    image [kK [/2]]     last layer of a decoder: K x K convolution (or linear) to the channels;
                        with /2 it stands on the half grid and shuffles four values into 2 x 2
    coupling N          first lines of a decoder, its prior: two affine couplings, each of which
                        shifts and scales one half of the latents by what two hidden layers of N
                        units make of the other half and the label (Dinh et al. 2017)
    label               append the label: one-hot values to a vector, constant maps to a grid
    film                scale and shift each channel by the label (Dumoulin et al. 2017)
    relu, silu, lrelu A activation (A = negative slope)
    batchnorm, groupnorm G
    dropout P
    residual C kK       x + conv(act(conv(act(x)))) with leaky ReLU 0.2, 1 x 1 shortcut if C changes
    features [C kK]     tap: the learned similarity is measured here. With C and K the tap is a
                        convolution BESIDE the path, which no discriminator loss ever trains
    classes             auxiliary classifier: the label is read here, beside the path, in K logits
                        (Odena et al. 2017); nothing when there are no labels
    logit [project]     last layer of a discriminator: one number; with `project` the label enters
                        as an inner product with the features (Miyato & Koyama 2018)

`trace` derives every shape and parameter count from the image's size, so that nothing is typed
twice and a mistake is found before anything is built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vaegan.errors import ConfigError

__all__ = ["Layer", "Shape", "Traced", "parse", "trace"]

Shape = tuple[int, ...]
"""Shape of one example: (C, H, W) for a grid, (N,) for a vector."""

# word: (names of the positional numbers, names of the optional suffixed or positional ones)
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "conv": (("channels", "k"), ("s",)),
    "deconv": (("channels", "k"), ()),
    "up": (("factor",), ()),
    "maxpool": (("factor",), ()),
    "avgpool": (("factor",), ()),
    "flatten": ((), ()),
    "sum": ((), ()),
    "dense": (("units",), ()),
    "grid": (("channels", "/"), ()),
    "image": ((), ("k", "/")),
    "coupling": (("units",), ()),
    "label": ((), ()),
    "film": ((), ()),
    "relu": ((), ()),
    "silu": ((), ()),
    "lrelu": (("slope",), ()),
    "batchnorm": ((), ()),
    "groupnorm": (("groups",), ()),
    "dropout": (("rate",), ()),
    "residual": (("channels", "k"), ()),
    "features": ((), ("channels", "k")),
    "classes": ((), ()),
    "logit": ((), ("project",)),
}
FRACTIONS = {"slope", "rate"}


@dataclass(frozen=True)
class Layer:
    """One parsed line: its word and its numbers by name."""

    word: str
    numbers: dict[str, float]

    def __getitem__(self, name: str) -> int:
        return int(self.numbers[name])

    def get(self, name: str, default: int = 0) -> int:
        """The whole number called `name`, or `default` when the line leaves it out."""
        return int(self.numbers.get(name, default))


@dataclass(frozen=True)
class Traced:
    """A layer with the shapes of one example before and after it, its parameters and its work.

    `macs` counts multiply-accumulates of one forward pass of one example.
    """

    layer: Layer
    before: Shape
    after: Shape
    parameters: int
    macs: int


def parse(line: str) -> Layer:
    """Parse one line such as ``"conv 64 k5 s2"``; raise ConfigError that quotes it."""
    word, *arguments = line.split() or [""]
    if word not in WORDS:
        raise ConfigError(f"layer {line!r}: unknown word {word!r}; known: {', '.join(WORDS)}")
    required, optional = WORDS[word]
    numbers: dict[str, float] = {}
    free = [name for name in required + optional if name not in {"k", "s", "/", "project"}]
    for argument in arguments:
        prefixed = next((p for p in ("k", "s", "/") if argument.startswith(p)), None)
        if argument == "project" and "project" in optional:
            name, text = "project", "1"
        elif prefixed:
            name, text = prefixed, argument[1:]
        elif free:
            name, text = free.pop(0), argument
        else:
            raise ConfigError(f"layer {line!r}: {argument!r} is one argument too many")
        if name not in required + optional or name in numbers:
            raise ConfigError(f"layer {line!r}: {argument!r} does not belong here")
        try:
            numbers[name] = float(text) if name in FRACTIONS else int(text)
        except ValueError:
            raise ConfigError(f"layer {line!r}: {text!r} is not a number") from None
        if not (0 <= numbers[name] < 1 if name in FRACTIONS else 1 <= numbers[name] <= 65536):
            raise ConfigError(f"layer {line!r}: {argument!r} is out of range")
    missing = [name for name in required if name not in numbers]
    if missing:
        raise ConfigError(f"layer {line!r}: {missing[0]!r} is missing")
    if "k" in numbers and numbers["k"] % 2 == 0:
        raise ConfigError(f"layer {line!r}: kernel (={numbers['k']:.0f}) must be odd")
    if word == "features" and "k" in numbers and "channels" not in numbers:
        raise ConfigError(f"layer {line!r}: a kernel needs channels (features 16 k3)")
    if word in {"up", "maxpool", "avgpool"} and numbers["factor"] != 2:
        raise ConfigError(f"layer {line!r}: the factor must be 2")
    return Layer(word, numbers)


def trace(
    lines: tuple[str, ...], start: Shape, image: Shape, num_classes: int
) -> tuple[Traced, ...]:
    """Follow one example of shape `start` through the network.

    `image` is the (C, H, W) of the data: `grid` and `image` take their sizes from it.
    Raises ConfigError that quotes the layer and the shape which do not fit.
    """
    if not lines:
        raise ConfigError("a network needs at least one layer")
    traced: list[Traced] = []
    shape = start
    for line in lines:
        layer = parse(line)
        after, parameters, macs = _apply(line, layer, shape, image, num_classes)
        traced.append(Traced(layer, shape, after, parameters, macs))
        shape = after
    return tuple(traced)


def _apply(
    line: str, layer: Layer, shape: Shape, image: Shape, num_classes: int
) -> tuple[Shape, int, int]:
    """Shape after the layer, its parameters, and its multiply-accumulates for one example."""
    grid_only = {"conv", "deconv", "up", "maxpool", "avgpool", "flatten", "sum", "residual"}
    vector_only = {"coupling", "dense", "grid", "classes", "logit"}
    if layer.word in grid_only and len(shape) != 3:
        raise ConfigError(f"layer {line!r} needs a grid (C, H, W) but gets a vector {shape}")
    if layer.word in vector_only and len(shape) != 1:
        raise ConfigError(f"layer {line!r} needs a vector but gets {shape}: `flatten` it first")
    channels, *grid = shape

    def conv(out: int, k: int, height: int, width: int, into: int = 0) -> tuple[int, int]:
        taps = (into or channels) * k * k
        return out * (taps + 1), out * taps * height * width

    match layer.word:
        case "conv":
            height, width = (math.ceil(n / layer.get("s", 1)) for n in grid)
            return (layer["channels"], height, width), *conv(
                layer["channels"], layer["k"], height, width
            )
        case "deconv":
            height, width = grid
            after = (layer["channels"], 2 * height, 2 * width)
            return after, *conv(layer["channels"], layer["k"], height, width)
        case "residual":
            (p1, m1), (p2, m2) = (
                conv(layer["channels"], layer["k"], grid[0], grid[1]),
                conv(layer["channels"], layer["k"], grid[0], grid[1], into=layer["channels"]),
            )
            change = channels != layer["channels"]
            p3, m3 = conv(layer["channels"], 1, *grid) if change else (0, 0)
            return (layer["channels"], *grid), p1 + p2 + p3, m1 + m2 + m3
        case "up":
            return (channels, *(2 * n for n in grid)), 0, 0
        case "maxpool":
            return (channels, *(math.ceil(n / 2) for n in grid)), 0, 0
        case "avgpool":
            if any(n % 2 for n in grid):
                raise ConfigError(f"layer {line!r} needs an even grid but gets {shape}")
            return (channels, *(n // 2 for n in grid)), 0, 0
        case "flatten":
            return (math.prod(shape),), 0, 0
        case "sum":
            return (channels,), 0, 0
        case "dense":
            return (layer["units"],), layer["units"] * (channels + 1), layer["units"] * channels
        case "coupling":
            units = layer["units"]
            macs = 2 * units * (channels + num_classes + units + 2 * channels)
            return shape, macs + 2 * (2 * units + 4 * channels), macs
        case "grid":
            factor = layer["/"]
            if any(n % factor for n in image[1:]):
                raise ConfigError(
                    f"layer {line!r}: image size {image[1]}x{image[2]} is not divisible by "
                    f"{factor}; pad or resize the images, or choose networks with another grid"
                )
            after = (layer["channels"], image[1] // factor, image[2] // factor)
            units = math.prod(after)
            return after, units * (channels + 1), units * channels
        case "image":
            kernel, factor = layer.get("k"), layer.get("/", 1)
            if factor > 2:
                raise ConfigError(f"layer {line!r}: only /2 is known")
            if factor == 2 and not kernel:
                raise ConfigError(f"layer {line!r}: /2 needs a grid and a kernel (image k3 /2)")
            if kernel and len(shape) == 3:
                if tuple(factor * n for n in grid) != image[1:]:
                    raise ConfigError(
                        f"layer {line!r} gets a grid of {grid[0]}x{grid[1]}, "
                        f"but images are {image[1]}x{image[2]}"
                    )
                return image, *conv(image[0] * factor * factor, kernel, grid[0], grid[1])
            if kernel or len(shape) == 3:
                raise ConfigError(f"layer {line!r}: a grid needs a kernel (k5), a vector none")
            units = math.prod(image)
            return image, units * (channels + 1), units * channels
        case "label":
            return (channels + num_classes, *grid), 0, 0
        case "film":
            return shape, 2 * channels * num_classes, 0
        case "batchnorm":
            return shape, 2 * channels, 0
        case "groupnorm":
            if channels % layer["groups"]:
                raise ConfigError(
                    f"layer {line!r}: channels (={channels}) must be divisible by "
                    f"groups (={layer['groups']})"
                )
            return shape, 2 * channels, 0
        case "features":
            if not layer.get("channels"):
                return shape, 0, 0
            if len(shape) != 3:
                raise ConfigError(f"layer {line!r} needs a grid (C, H, W) but gets {shape}")
            return shape, *conv(layer["channels"], layer.get("k", 1), *grid)
        case "classes":
            return shape, num_classes * (channels + 1), num_classes * channels
        case "logit":
            project = num_classes * channels if layer.get("project") else 0
            return (1,), channels + 1 + project, channels
        case _:  # activations and dropout
            return shape, 0, 0

"""The film of a run: its averaged decoder at some steps, from which any manifold can be drawn."""

from __future__ import annotations

from collections.abc import Iterator

from vaegan.errors import RunError
from vaegan.files import read_tensors, write_tensors
from vaegan.model import Model
from vaegan.rundir import RunDirectory

__all__ = ["frame_steps", "frames", "is_frame", "record"]


def is_frame(step: int) -> bool:
    """Steps that get a frame of the film: all up to 8, then four a doubling: 8, 10, 12, 14, 16,
    20, 24, ... so that the early steps, in which most happens, fill half of it.
    """
    return step % (1 << max(step.bit_length() - 3, 0)) == 0


def record(run: RunDirectory, step: int, model: Model) -> None:
    """Keep the decoder of this step, in half precision."""
    weights = model.decoder.state_dict()
    half = {name: t.half() if t.is_floating_point() else t for name, t in weights.items()}
    write_tensors(run.film_weights / f"step-{step:08d}.safetensors", half)


def frame_steps(run: RunDirectory) -> list[int]:
    """The steps whose decoders the run recorded, in order; RunError when there are none."""
    names = sorted(path.stem for path in run.film_weights.glob("step-*.safetensors"))
    if not names:
        raise RunError(
            f"{run.films.parent} recorded no film: `vaegan train` does, from its first step on"
        )
    return [int(name.removeprefix("step-")) for name in names]


def frames(run: RunDirectory, model: Model) -> Iterator[tuple[int, Model]]:
    """The run's film: (step, model with the decoder of that step), in order of steps.

    The same model object each time; its decoder is put back at the end.
    """
    own = {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()}
    half = {name: t.half() if t.is_floating_point() else t for name, t in own.items()}
    try:
        for step in frame_steps(run):
            tensors = read_tensors(run.film_weights / f"step-{step:08d}.safetensors", half)
            model.decoder.load_state_dict({n: t.to(own[n].dtype) for n, t in tensors.items()})
            yield step, model
    finally:
        model.decoder.load_state_dict(own)

"""Several processes that train one model together, each on its rows of every batch.

`torchrun` starts them and tells them who they are by environment variables; the collective calls
are torch.distributed's, over NCCL on GPUs and gloo elsewhere. A global batch of B images gives
rank r of W the rows r, r + W, r + 2W, ...: whatever is laid one after the other along the batch,
halves of two kinds of image for example, lies in the same order on every rank. What is averaged
over a batch is averaged over its ranks with `Ranks.mean`, so that W ranks compute what one does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vaegan.errors import ConfigError, RunError

__all__ = ["ALONE", "Ranks", "joined"]


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and on which `device` it computes.

    Every method is a collective call when there are several ranks:
    all make the same calls in the same order. Alone, they return what they are given. Raises
    RunError when another process is gone.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this rank reads and writes files and speaks."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """The rows of a global batch that are for this rank."""
        return slice(self.rank, None, self.world)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks, elementwise, which gradients pass through.

        Each rank's gradient of its own loss becomes that of the mean loss of all, once the
        gradients of parameters are averaged too.
        """
        return values if self.world == 1 else MeanOverRanks.apply(values, self.world)

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in one call for all of them."""
        if self.world == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        _reduce(flat)
        parts = flat.div_(self.world).split([gradient.numel() for gradient in gradients])
        shaped = [part.view_as(gradient) for part, gradient in zip(parts, gradients)]
        torch._foreach_copy_(list(gradients), shaped)

    def largest(self, number: float) -> float:
        """The largest value that any rank has."""
        if self.world == 1:
            return number
        value = torch.tensor(number, dtype=torch.float64, device=self.device)
        _reduce(value, dist.ReduceOp.MAX)
        return value.item()

    def told(self, tree: Any) -> Any:
        """What the leader has to say: its plain JSON values; the others' are ignored."""
        if self.world == 1:
            return tree
        text = json.dumps(tree).encode() if self.leads else b""
        size = torch.tensor([len(text)], device=self.device)
        _spread(size)
        letters = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if self.leads:
            letters.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        _spread(letters)
        return json.loads(bytes(letters.cpu().tolist()))

    def given(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The leader's tensors, by name, on the device; the others' are ignored."""
        if self.world == 1:
            return tensors
        kinds = {name: (str(t.dtype), list(t.shape)) for name, t in tensors.items()}
        received = {}
        for name, (kind, shape) in self.told(kinds).items():
            dtype = getattr(torch, kind.removeprefix("torch."))
            tensor = torch.empty(shape, dtype=dtype, device=self.device)
            if self.leads:
                tensor.copy_(tensors[name])
            _spread(tensor)
            received[name] = tensor
        return received


ALONE = Ranks()


def _reduce(tensor: Tensor, *operation: Any) -> None:
    """The sum over the ranks, in place, or what another operation makes of them."""
    with _nobody_lost():
        dist.all_reduce(tensor, *operation)


def _spread(tensor: Tensor) -> None:
    """The leader's tensor, in place."""
    with _nobody_lost():
        dist.broadcast(tensor, 0)


@contextmanager
def _nobody_lost() -> Iterator[None]:
    """RunError for what a collective call raises when a process or its machine is gone.

    Gloo has no error of its own for that, so that the message quotes what there was.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RunError(
            "another process was lost; the same command goes on from the last checkpoint "
            f"({reason[:200]})"
        ) from error


class MeanOverRanks(torch.autograd.Function):
    """Mean over ranks forward; backward the mean of the gradients that arrive on each of them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, world: int) -> Tensor:
        """Sum over the ranks and divide."""
        ctx.world = world
        total = values.contiguous().clone()
        _reduce(total)
        return total.div_(world)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The same operation: it is its own transpose."""
        total = gradients[0].contiguous().clone()
        _reduce(total)
        return total.div_(ctx.world), None


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks that `torchrun` started, this one among them; alone without `torchrun`.

    `device` (`cpu`, `cuda`) is where they compute: each takes the GPU of its local number. Raises
    ConfigError when a rank has no GPU of its own, or the device cannot be shared.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield Ranks(device=device)
        return
    if device == "mps":
        raise ConfigError("several processes cannot share mps: use --device cpu")
    # Its functions have the group of the moment as default arguments: imported later (optimisers
    # do), they would keep it, and its threads, beyond destroy_process_group. A thread that frees a
    # tensor while the interpreter ends aborts the process.
    import torch.distributed.nn

    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"rank {rank} has no GPU: this machine has {torch.cuda.device_count()}; use "
                f"--nproc-per-node {torch.cuda.device_count()}, or --device cpu"
            )
        gpu = torch.device("cuda", local)
        torch.cuda.set_device(gpu)
        dist.init_process_group("nccl", device_id=gpu)
        device = str(gpu)
    else:
        dist.init_process_group("gloo")
    yield Ranks(rank, world, device)
    dist.destroy_process_group()  # not after an error: others may be waiting in a call

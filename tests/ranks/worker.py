"""Train cases of a folder for 50 steps as one of the ranks that torchrun started, or alone.

    worker.py CASES OUT NAME ...

In double precision, so that rounding does not hide what is wrong.

Writes OUT/CASE-rank-R.safetensors, the trainer's tensors, and OUT/CASE-rank-R.json: its numbers,
and at every step the networks that stepped, losses and gradient norms.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from vaegan.config import RunConfig
from vaegan.data import Dataset, Split
from vaegan.ranks import joined
from vaegan.training import trainer_for

STEPS = 50


def main(cases: Path, out: Path, *names: str) -> None:
    # `.float()`, which the losses use to leave bfloat16, means double precision.
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    with joined("cpu") as ranks:
        for path in (cases / f"{name}.json" for name in names):
            config = RunConfig.model_validate(json.loads(path.read_text()))
            arrays = np.load(path.with_suffix(".npz"))
            split = Split(arrays["pixels"], arrays["labels"])
            nothing = split.take(np.arange(0))
            classes = tuple(str(label) for label in range(split.labels.max() + 1))
            dataset = Dataset("case", split, nothing, nothing, classes)
            trainer = trainer_for(config, dataset, ranks)
            rows = []
            for step in range(STEPS):
                rows.append(trainer.step(step / STEPS) | trainer.gradient_norms)
            name = f"{path.stem}-rank-{ranks.rank}"
            tensors = {key: value.contiguous() for key, value in trainer.tensors().items()}
            save_file(tensors, out / f"{name}.safetensors")
            (out / f"{name}.json").write_text(json.dumps([trainer.numbers(), rows]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])

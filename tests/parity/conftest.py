"""Double precision, in which an identity holds to many digits or not at all."""

import pytest
import torch


@pytest.fixture
def double(monkeypatch):
    """Let `.float()`, which the losses use to leave bfloat16, mean double precision."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)

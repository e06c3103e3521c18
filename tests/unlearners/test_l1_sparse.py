"""The run itself is in test_closed_forms."""

import numpy as np
import pytest
import torch
from torch import nn

from grmu_sk.nets import MLP
from grmu_sk.unlearners.l1_sparse import _l1_norm


def test_norm_counts_all_parameters_and_no_buffer():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)).double()
    module[1].running_mean.fill_(100.0)
    module[1].bias.data.fill_(10.0)
    expected = sum(np.abs(value.detach().numpy()).sum() for value in module.parameters())
    assert _l1_norm(module).item() == pytest.approx(expected)


def test_norm_is_formed_in_float32():
    """In bfloat16 a sum of many small numbers stops growing."""
    module = MLP(100, hidden=(100,)).bfloat16()
    expected = sum(value.detach().double().abs().sum().item() for value in module.parameters())
    assert _l1_norm(module).dtype == torch.float32
    assert _l1_norm(module).item() == pytest.approx(expected, rel=1e-5)
    assert _l1_norm(module.double()).dtype == torch.float64

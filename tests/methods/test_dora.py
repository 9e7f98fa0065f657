"""Oracle: a row of zeros, whose direction is 0 / 0."""

from __future__ import annotations

import pytest
import torch
from support.method_cases import configured
from torch import nn

from lora_bench.errors import ModelError
from lora_bench.methods import Placed, build_method


def test_a_row_without_a_direction_is_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight[1] = 0
    method = build_method(configured("dora", "bert"))
    with pytest.raises(ModelError, match=r"method=dora: row 1 of 0 is all zeros .* use method=lora"):
        method.apply(net, Placed(("0",), ("1",)))

"""OLoRA (arXiv:2406.01775): the adapter starts with the first columns of the matrix's QR decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

from lora_bench.methods.principal import PrincipalMethod


class OloraMethod(PrincipalMethod):
    """B0 = Q_r, which is orthonormal, and A0 = R_r; the base loses `scale` Q_r R_r, as in the paper's algorithm."""

    def factors(self, weight_OI: Tensor, *, r: int, scale: float) -> tuple[Tensor, Tensor]:
        """The first r columns of Q and rows of R."""
        q_OK, r_KI = torch.linalg.qr(weight_OI)
        return q_OK[:, :r], r_KI[:r]

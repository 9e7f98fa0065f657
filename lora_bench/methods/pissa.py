"""PiSSA (arXiv:2404.02948): the adapter starts with the principal singular part of the matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from lora_bench.methods.principal import PrincipalMethod


class PissaMethod(PrincipalMethod):
    """B0 = U sqrt(S / scale) and A0 = sqrt(S / scale) V^T over the r largest singular values (equations 2 and 3)."""

    def factors(self, weight_OI: Tensor, *, r: int, scale: float) -> tuple[Tensor, Tensor]:
        """Each factor has half of the singular values."""
        u_OK, s_K, vt_KI = torch.linalg.svd(weight_OI, full_matrices=False)
        root_R = (s_K[:r] / scale).sqrt()
        return u_OK[:, :r] * root_R, root_R[:, None] * vt_KI[:r]

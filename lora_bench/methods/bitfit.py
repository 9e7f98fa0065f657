"""BitFit (arXiv:2106.10199): the biases alone are trained."""

from __future__ import annotations

from lora_bench.methods.base import Placed
from lora_bench.methods.subset import SubsetMethod


class BitFitMethod(SubsetMethod):
    """Biases of matrices and of norms."""

    def chooses(self, name: str, placed: Placed) -> bool:
        """By name: what is added to activations is called bias in every architecture of transformers."""
        return name.endswith(".bias")

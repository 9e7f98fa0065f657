"""fp32 masters of weights that compute in a narrower dtype.

Without them bf16 weights do not learn: a step of AdamW is smaller than half the distance to the next bf16 number,
so adding it changes nothing. The optimiser sees the masters; the network computes with their rounded copies, and
so forward, backward and the weights' traffic run at bf16 speed. (Autocast keeps fp32 weights instead and casts them
in every step: a step of full fine-tuning of MiniLM takes 1.5 times as long.)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

MASTER_DTYPE = torch.float32


class MasterWeights:
    """What the optimiser works on, for the trained parameters of one network.

    Each step: backward, `collect_gradients` (once per micro-batch), clip and step over `parameters`, `publish`.
    Parameters that are fp32 already, such as PEFT's adapters, are their own masters and cost nothing. Gradients of
    masters exist from `collect_gradients` until the optimiser clears them, so they never lie beside activations.

    Attributes:
        parameters: One fp32 parameter for each given one, in the same order.
    """

    def __init__(self, trained: Iterable[nn.Parameter]) -> None:
        self.parameters: list[nn.Parameter] = []
        self._lowered: list[Tensor] = []
        self._masters: list[Tensor] = []
        for parameter in trained:
            if parameter.dtype not in (torch.bfloat16, torch.float16):
                self.parameters.append(parameter)
                continue
            master = nn.Parameter(parameter.detach().to(MASTER_DTYPE))
            self.parameters.append(master)
            self._lowered.append(parameter)
            self._masters.append(master)

    @property
    def has_lowered(self) -> bool:
        """Whether any parameter has a master beside it."""
        return bool(self._lowered)

    def collect_gradients(self) -> None:
        """Moves the gradients of one backward pass to the masters, adding in fp32 to what is there."""
        for parameter, master in zip(self._lowered, self._masters, strict=True):
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.to(MASTER_DTYPE)
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the network; called after a step and after masters were loaded."""
        if self._lowered:
            torch._foreach_copy_([local(p) for p in self._lowered], [local(master) for master in self._masters])


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that may be split among several."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

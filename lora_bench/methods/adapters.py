"""Bottleneck adapters: small networks beside the residual stream, as the LoRA paper's tables have them.

Own modules and not a library's: none that is maintained runs on transformers 5. Each adapter hangs on a module of the
base, whose output it changes by a hook, so that no module of the base is replaced or renamed. It computes in the dtype
of the base; training keeps fp32 masters.

A bottleneck of m at width d has 2 d m + m + d numbers (LoRA, arXiv:2106.09685, 5.1).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lora_bench.config.methods import AdapterMethodConfig
from lora_bench.config.schema import RunConfig
from lora_bench.methods.base import Layer, Method, Placed, is_below

CHILD = "adapter"
"""What an adapter is called below the module that it hangs on."""


class Bottleneck(nn.Module):
    """Down, activation, up; the up projection starts at zero, so that nothing is added at first."""

    def __init__(self, width: int, bottleneck: int, *, activation: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm if norm is not None else nn.Identity()
        self.down = nn.Linear(width, bottleneck)
        self.activation = activation
        self.up = nn.Linear(bottleneck, width)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """What is added, same shape and dtype."""
        added: Tensor = self.up(self.activation(self.down(self.norm(x_BTD))))
        return added


class AdapterMethod(Method):
    """Adapters and the task head are trained; nothing can be merged, so they cost time at inference."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.method, AdapterMethodConfig), "registered under its own config"
        self.bottleneck = config.method.bottleneck

    @abstractmethod
    def attach(self, net: nn.Module, layer: Layer, width: int) -> None:
        """Hangs this kind's adapters on one layer."""

    def layers(self, placed: Placed) -> tuple[Layer, ...]:
        """Those that get adapters; all, unless a kind says otherwise."""
        return placed.layers

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Freezes the base and adds adapters."""
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(is_below(name, placed.head_modules))
        config: Any = net.config
        for layer in self.layers(placed):
            self.attach(net, layer, int(config.hidden_size))
        return net

    def merge(self, net: nn.Module) -> nn.Module | None:
        """A nonlinear network is no matrix."""
        return None


def attach(module: nn.Module, adapter: Bottleneck, hook: Callable[..., Any]) -> None:
    """Hangs an adapter on a module, in its dtype and on its device."""
    weight = next(module.parameters())
    module.add_module(CHILD, adapter.to(device=weight.device, dtype=weight.dtype))
    module.register_forward_hook(hook)


def after_matrix(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Hook: what the matrix gives, and what the adapter makes of that."""
    added: Tensor = module.get_submodule(CHILD)(output)
    return output + added


def before_last_norm(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Hook on a norm that ends a layer: the adapter reads the normed sum and adds to the sum, which is normed again."""
    added: Tensor = norm.get_submodule(CHILD)(output)
    normed: Tensor = norm.forward(inputs[0] + added)
    return normed


def after_layer(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
    """Hook on a layer that ends in a sum: the adapter reads the sum and adds to it."""
    x_BTD = output[0] if isinstance(output, tuple) else output
    x_BTD = x_BTD + layer.get_submodule(CHILD)(x_BTD)
    return (x_BTD, *output[1:]) if isinstance(output, tuple) else x_BTD


def norm_of(net: nn.Module, width: int) -> nn.LayerNorm:
    """A trained norm of an adapter's own, with the architecture's epsilon."""
    config: Any = net.config
    epsilon = getattr(config, "layer_norm_eps", None) or getattr(config, "rms_norm_eps", None) or 1e-5
    return nn.LayerNorm(width, eps=float(epsilon), dtype=torch.float32)

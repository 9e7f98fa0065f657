"""What can be trained, by the name in `conf/method/`."""

from __future__ import annotations

from lora_bench.config.schema import RunConfig
from lora_bench.methods.base import Method, Placed
from lora_bench.methods.full import FullMethod
from lora_bench.methods.lora import LoraMethod

__all__ = ["METHODS", "Method", "Placed", "build_method"]

METHODS: dict[str, type[Method]] = {
    "full": FullMethod,
    "lora": LoraMethod,
}


def build_method(config: RunConfig) -> Method:
    """The method that the configuration names; composing has already refused unknown names."""
    return METHODS[config.method.name](config)

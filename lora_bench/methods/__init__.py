"""What can be trained, by the name in `conf/method/`."""

from __future__ import annotations

from lora_bench.config.schema import RunConfig
from lora_bench.methods.adalora import AdaLoraMethod
from lora_bench.methods.adapter_d import AdapterDMethod
from lora_bench.methods.adapter_h import AdapterHMethod
from lora_bench.methods.adapter_l import AdapterLMethod
from lora_bench.methods.adapter_p import AdapterPMethod
from lora_bench.methods.base import Layer, Method, Placed
from lora_bench.methods.bitfit import BitFitMethod
from lora_bench.methods.dora import DoraMethod
from lora_bench.methods.eva import EvaMethod
from lora_bench.methods.full import FullMethod
from lora_bench.methods.ia3 import Ia3Method
from lora_bench.methods.loftq import LoftqMethod
from lora_bench.methods.lora import LoraMethod
from lora_bench.methods.lora_fa import LoraFaMethod
from lora_bench.methods.lora_plus import LoraPlusMethod
from lora_bench.methods.lora_prefix import LoraPrefixEmbedMethod, LoraPrefixLayerMethod
from lora_bench.methods.olora import OloraMethod
from lora_bench.methods.pissa import PissaMethod
from lora_bench.methods.prefix_embed import PrefixEmbedMethod
from lora_bench.methods.prefix_layer import PrefixLayerMethod
from lora_bench.methods.qlora import QloraMethod
from lora_bench.methods.top_layers import TopLayersMethod
from lora_bench.methods.vera import VeraMethod

__all__ = ["METHODS", "Layer", "Method", "Placed", "build_method"]

METHODS: dict[str, type[Method]] = {
    "full": FullMethod,
    "bitfit": BitFitMethod,
    "top_layers": TopLayersMethod,
    "lora": LoraMethod,
    "rslora": LoraMethod,
    "lora_plus": LoraPlusMethod,
    "lora_fa": LoraFaMethod,
    "dora": DoraMethod,
    "pissa": PissaMethod,
    "olora": OloraMethod,
    "eva": EvaMethod,
    "adalora": AdaLoraMethod,
    "qlora": QloraMethod,
    "loftq": LoftqMethod,
    "vera": VeraMethod,
    "ia3": Ia3Method,
    "adapter_h": AdapterHMethod,
    "adapter_l": AdapterLMethod,
    "adapter_p": AdapterPMethod,
    "adapter_d": AdapterDMethod,
    "prefix_embed": PrefixEmbedMethod,
    "prefix_layer": PrefixLayerMethod,
    "lora_prefix_embed": LoraPrefixEmbedMethod,
    "lora_prefix_layer": LoraPrefixLayerMethod,
}


def build_method(config: RunConfig) -> Method:
    """The method that the configuration names; composing has already refused unknown names."""
    return METHODS[config.method.name](config)

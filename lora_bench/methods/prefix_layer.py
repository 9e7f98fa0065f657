"""Prefix-layer tuning: the activations of some tokens before the text are trained in every layer (PreLayer)."""

from __future__ import annotations

from typing import ClassVar

from lora_bench.methods.prefix_embed import PrefixEmbedMethod


class PrefixLayerMethod(PrefixEmbedMethod):
    """L d numbers per token: at the input, and after each layer but the last, whose are read by nobody."""

    in_every_layer: ClassVar[bool] = True

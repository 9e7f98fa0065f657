"""Imported once by the server that runs are forked from: imports only, nothing is computed.

A BERT and a Llama stand for the modelling code; transformers loads the others when they are asked for.
"""

from __future__ import annotations

import accelerate
import peft
import transformers.models.bert.modeling_bert
import transformers.models.llama.modeling_llama

import lora_bench.benchmark

__all__ = ["accelerate", "lora_bench", "peft", "transformers"]

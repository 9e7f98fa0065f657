"""The peak learning rate where `training.lr` is not set: by method, and by the family and width of the model.

What `conf/method/` holds was best on MiniLM, 384 wide. Wider models want lower rates. "LoRA Without Regret" (Schulman
et al., 2025) fits the best rates of 14 Llama and Qwen models, at alpha = 32 and alpha / r, by

    full   5e-5 (2000 / width)^p      LoRA   ten times that

with the same exponent for both: 0.781 for Llama, 0.0775 for Qwen (`get_lr` of the authors' tinker-cookbook has these
numbers). So

    Llama and Qwen, 1024 wide or more   `full` and `lora` have the rate of the fit; a method that is like one of them
                                        is moved by the factor by which that one is
    any other model                     the rate on MiniLM times (384 / width)^p, with Llama's exponent. assumption:
                                        it was fitted to Llama alone, but from 1e-4 for `full` and 5e-4 for LoRA it
                                        gives 6.7e-6 at GPT-3's width and 2.3e-4 at GPT-2 medium's, where the LoRA paper
                                        (arXiv:2106.09685, tables 11 and 12) has 5e-6 and 2e-4
    narrower than MiniLM                the rate on MiniLM: nothing was measured there

A rate that is given is never touched.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from lora_bench.config.schema import RunConfig, Source

MEASURED_WIDTH = 384
"""Of MiniLM, where the rates in `conf/method/` were measured."""
EXPONENTS = {"llama": 0.781, "qwen2": 0.0775, "qwen3": 0.0775, "qwen3_moe": 0.0775}
"""Of the fit, by `model_type`."""
OTHER_EXPONENT = EXPONENTS["llama"]
FIT_WIDTH, FIT_RATES = 2000, {"full": 5e-5, "lora": 5e-4}
NARROWEST_FIT = 1024
"""No narrower model was fitted; Llama's architecture is also that of much smaller models (SmolLM2, 576 wide)."""


@dataclass(frozen=True)
class Rate:
    """A default and how it came about."""

    value: float
    reason: str
    """Empty where it is the rate that was measured on MiniLM."""


def default_rate(config: RunConfig) -> Rate:
    """The default for this method on this model."""
    model = config.model
    architecture = _architecture(dict(model.architecture), model.source, model.folder)
    return _rate(config.method.default_lr, config.method.like, architecture)


def resolve_rate(_root_: DictConfig) -> float:
    """What `${default_rate:}` in `conf/training/default.yaml` stands for."""
    model = _root_.model
    architecture = _architecture(dict(model.architecture), model.source, model.folder)
    return _rate(float(_root_.method.default_lr), _root_.method._metadata.object_type.like, architecture).value


def rate_note(config: RunConfig) -> Iterator[str]:
    """How the rate of a run came about, where it is the default and not the one measured on MiniLM."""
    rate = default_rate(config)
    if rate.reason and config.training.lr == rate.value:
        yield f"training.lr: {rate.value:g} is the default of method={config.method.name} here: {rate.reason}"


def _rate(measured: float, like: str, architecture: Mapping[str, Any]) -> Rate:
    width, family = _width(architecture), str(architecture.get("model_type"))
    if width is None or width <= MEASURED_WIDTH:
        return Rate(measured, "")
    exponent = EXPONENTS.get(family, OTHER_EXPONENT)
    if family in EXPONENTS and width >= NARROWEST_FIT:
        ratio = measured / _measured(like)
        formula = f"{FIT_RATES[like]:g} x ({FIT_WIDTH} / {width})^{exponent:g} for {like}"
        reason = f"{formula}, the fit of 'LoRA Without Regret' to {family} models"
        if ratio != 1:
            reason += f", x {ratio:g}, the ratio of both on MiniLM"
        return Rate(_rounded(FIT_RATES[like] * (FIT_WIDTH / width) ** exponent * ratio), reason)
    reason = f"{measured:g}, measured on MiniLM, x ({MEASURED_WIDTH} / {width})^{exponent:g} for the width of the model"
    return Rate(_rounded(measured * (MEASURED_WIDTH / width) ** exponent), reason)


def _rounded(rate: float) -> float:
    """As somebody would type it."""
    return float(f"{rate:.3g}")


def _architecture(given: Mapping[str, Any], source: Source, folder: str | None) -> Mapping[str, Any]:
    """That of the folder where weights are from one; where it cannot be read, preflight says so."""
    if source is Source.folder and folder:
        try:
            found = json.loads((Path(folder).expanduser() / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return given
        return found if isinstance(found, dict) else given
    return given


def _width(architecture: Mapping[str, Any]) -> int | None:
    """Of the hidden states, as the architectures call it; None where it is not said."""
    found = [architecture.get(key) for key in ("hidden_size", "n_embd", "d_model")]
    return next((value for value in found if isinstance(value, int)), None)


@functools.cache
def _measured(method: str) -> float:
    """What `conf/method/` says."""
    from lora_bench.config.store import CONF_DIR

    return float(yaml.safe_load((CONF_DIR / "method" / f"{method}.yaml").read_text(encoding="utf-8"))["default_lr"])

"""Model configurations straight from `conf/model`, and a tiny architecture of every family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support.tiny_architectures import TINY

from lora_bench.config.schema import Attention, ModelConfig, Source, TaskKind
from lora_bench.models.load import load_model

CONF = Path(__file__).resolve().parents[2] / "conf"

ENCODERS = ("bert", "roberta", "deberta-v2")


@pytest.fixture
def model_config() -> Callable[..., ModelConfig]:
    """Reads `conf/model/<name>.yaml` against its schema, with overrides as keywords."""

    def make(name: str, **overrides: Any) -> ModelConfig:
        values = OmegaConf.load(CONF / "model" / f"{name}.yaml")
        assert values.pop("defaults") == ["base_model", "_self_"]
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), values, overrides))
        assert isinstance(config, ModelConfig)
        return config

    return make


@pytest.fixture
def cache_dir(cache: str) -> Path:
    """The session's cache, in which SmolLM2 is converted at most once."""
    return Path(cache)


@pytest.fixture
def tiny_architecture() -> Callable[[str], dict[str, Any]]:
    """A copy of a family's tiny numbers."""
    return lambda model_type: {"model_type": model_type, **copy.deepcopy(TINY[model_type])}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    """`load_model` with the arguments that a test does not care about."""

    def call(model: ModelConfig, kind: TaskKind = TaskKind.classification, **given: Any) -> Any:
        defaults: dict[str, Any] = {
            "num_labels": 3 if kind is TaskKind.classification else None,
            "cache": tmp_path / "cache",
            "dtype": torch.float32,
            "seed": 0,
            "dropout": None,
            "pad_token_id": 0,
        }
        return load_model(model, kind=kind, **{**defaults, **given})

    return call


@pytest.fixture
def tiny_net(tiny_architecture: Callable[[str], dict[str, Any]], load: Callable[..., Any]) -> Callable[..., Any]:
    """A random network of one family with three classes, or with its language-model head."""

    def build(model_type: str, kind: TaskKind = TaskKind.classification, **given: Any) -> Any:
        model = ModelConfig(
            name=model_type,
            source=Source.random,
            attention=Attention.eager,
            architecture=tiny_architecture(model_type),
        )
        return load(model, kind, **given)

    return build


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`model_type` runs over every family, `decoder_type` over those that generate."""
    if "model_type" in metafunc.fixturenames:
        metafunc.parametrize("model_type", sorted(TINY))
    if "decoder_type" in metafunc.fixturenames:
        metafunc.parametrize("decoder_type", sorted(set(TINY) - set(ENCODERS)))

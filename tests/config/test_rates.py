"""Oracles: rates that were published for known models, and the rates that were measured on MiniLM."""

from __future__ import annotations

import json

import pytest

from lora_bench.config.overrides import compose_config
from lora_bench.config.rates import default_rate, rate_note
from lora_bench.config.resolve import resolve
from lora_bench.config.store import group_choices


def composed(*words):
    return resolve(compose_config([*words, "tracking=none"]))


@pytest.mark.parametrize("method", group_choices("method"))
def test_on_minilm_every_method_keeps_its_measured_rate(method):
    config = composed(f"method={method}")
    assert config.training.lr == config.method.default_lr
    assert list(rate_note(config)) == []


@pytest.mark.parametrize(
    ("model", "full", "lora"),
    [
        # get_lr of tinker-cookbook, the authors of the fit.
        ("llama-3.2-1b", 4.91e-5, 4.91e-4),
        ("llama-3.1-8b", 2.86e-5, 2.86e-4),
        ("qwen3-0.6b", 5.27e-5, 5.27e-4),
        # (384 / width)^0.781 times 1e-4 and 5e-4; the LoRA paper has 2e-4 for GPT-2 medium (table 11).
        ("gpt2-medium", 4.65e-5, 2.32e-4),
        ("smollm2-135m", 7.29e-5, 3.64e-4),
        ("t5-base", 5.82e-5, 2.91e-4),
        ("tiny-llama", 1e-4, 5e-4),
    ],
)
def test_known_models(model, full, lora):
    found = [composed(f"model={model}", f"method={method}").training.lr for method in ("full", "lora")]
    assert found == pytest.approx([full, lora], rel=2e-3)


def test_the_rule_meets_gpt_3():
    """arXiv:2106.09685, table 12: 5e-6 for full fine-tuning at a width of 12,288."""
    config = composed("model=gpt2", "method=full", "model.architecture.n_embd=12288")
    assert config.training.lr == pytest.approx(6.7e-6, rel=0.01)


def test_kin_moves_with_lora_and_what_trains_weights_with_full():
    on = {m: composed("model=llama-3.1-8b", f"method={m}").training.lr for m in ("full", "lora", "dora", "adapter_h")}
    assert on["dora"] == on["lora"]
    assert on["adapter_h"] == pytest.approx(6 * on["lora"], rel=5e-3)
    top = composed("model=llama-3.1-8b", "method=top_layers").training.lr
    assert top == pytest.approx(3 * on["full"], rel=5e-3)


def test_a_rate_that_is_given_is_never_touched():
    config = composed("model=llama-3.1-8b", "training.lr=1e-4")
    assert config.training.lr == 1e-4
    assert list(rate_note(config)) == []


def test_the_record_says_how_the_rate_came_about():
    (note,) = rate_note(composed("model=llama-3.1-8b"))
    assert note == (
        "training.lr: 0.000286 is the default of method=lora here: 0.0005 x (2000 / 4096)^0.781 for lora, the fit of "
        "'LoRA Without Regret' to llama models"
    )
    (note,) = rate_note(composed("model=gpt2-medium", "method=vera"))
    assert note.endswith("0.05, measured on MiniLM, x (384 / 1024)^0.781 for the width of the model")


def test_the_width_of_a_folder_is_the_one_it_says(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 4096}))
    words = ("model.source=folder", f"model.folder={tmp_path}")
    assert composed(*words).training.lr == 2.86e-4
    (tmp_path / "config.json").write_text("[")
    assert default_rate(composed(*words)).value == 5e-4, "preflight says what is wrong with it"

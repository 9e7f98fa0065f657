"""Oracles: the best approximation of rank r (Eckart-Young) and torch's own QR; the base as it was loaded."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from support.method_cases import build_case

from lora_bench.methods.lora import lora_layers
from lora_bench.methods.principal import START_FILE

NAME = "encoder.layer.0.attention.self.query"


@pytest.fixture
def parts(tmp_path):
    """Builds a case; the weight of one matrix before and after, and its adapter's product at the start."""

    def make(method, architecture="bert", name=f"bert.{NAME}"):
        case = build_case(method, architecture, "lora.alpha=6", folder=tmp_path)
        layer = lora_layers(case.net)[name]
        weight = layer.base_layer.weight.detach()
        return case, case.base[f"{name}.weight"], weight, layer

    return make


def test_pissa_moves_the_best_approximation_into_the_adapter(parts):
    _, before, after, layer = parts("pissa")
    u, s, vt = torch.linalg.svd(before)
    best = u[:, :2] @ torch.diag(s[:2]) @ vt[:2]
    assert layer.scaling["default"] == 3.0
    torch.testing.assert_close(layer.get_delta_weight("default"), best, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after, before - best, rtol=1e-4, atol=1e-6)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.testing.assert_close(a.norm(dim=1), b.norm(dim=0), msg="both factors have half of the singular values")


def test_olora_starts_with_an_orthonormal_b(parts):
    _, before, after, layer = parts("olora")
    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    torch.testing.assert_close(b.T @ b, torch.eye(2), rtol=0, atol=1e-5)
    q, r = torch.linalg.qr(before)
    torch.testing.assert_close(b @ a, q[:, :2] @ r[:2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after + layer.get_delta_weight("default"), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_a_transposed_matrix_is_taken_the_right_way_round(method, tmp_path):
    case = build_case(method, "gpt2", "placement=down", folder=tmp_path)
    layer = lora_layers(case.net)["transformer.h.0.mlp.c_proj"]
    whole = layer.base_layer.weight + layer.get_delta_weight("default")
    torch.testing.assert_close(whole, case.base["transformer.h.0.mlp.c_proj.weight"], rtol=0, atol=1e-6)


def test_a_machine_whose_decomposition_differs_takes_the_saved_part_from_its_base(parts, tmp_path, monkeypatch):
    case, before, _, _ = parts("pissa")
    case.train()
    expected = case.logits()
    case.method.save(case.net, tmp_path / "weights")
    svd = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *given, **options: _flipped(svd(*given, **options)))
    fresh, _, _, _ = parts("pissa")
    fresh.method.load(fresh.net, tmp_path / "weights")
    torch.testing.assert_close(fresh.logits(), expected, rtol=0, atol=2e-5)
    start = load_file(tmp_path / "weights" / START_FILE)
    layer = lora_layers(fresh.net)[f"bert.{NAME}"]
    moved = layer.scaling["default"] * start[f"bert.{NAME}.lora_B.weight"] @ start[f"bert.{NAME}.lora_A.weight"]
    torch.testing.assert_close(layer.base_layer.weight.detach() + moved, before, rtol=0, atol=1e-6)


def _flipped(parts):
    """Another decomposition of the same matrix, with the first two singular directions exchanged for the next."""
    u, s, vt = parts
    order = [2, 3, 0, 1, *range(4, len(s))]
    return u[:, order], s[order], vt[order]

"""What a run records as weights, gradients, optimiser state and activations. Oracle: torch's own memory tracker.

`torch.distributed._tools.mem_tracker` attributes tensors by hooks on modules, parameters and optimiser; our count asks
what is live between the parts of a step. In fp32, where neither has masters to place.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

from lora_bench.benchmark import run_benchmark
from lora_bench.naming import run_dir_for
from lora_bench.preflight import root_folder
from lora_bench.prepared import prepare
from lora_bench.tasks.collate import collate
from lora_bench.training.loss import summed_loss

CPU = torch.device("cpu")
NO_HOOK = SimpleNamespace(remove=lambda: None)


@pytest.fixture
def texts(tmp_path):
    """Texts of one length, so that every batch has the same shape."""
    rows = [f'"{("a good" if index % 2 else "a bad")} day in the week",{index % 2}' for index in range(64)]
    for name in ("train", "validation", "eval"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return ["task=files", *(f"task.{name}={tmp_path}/{name}.csv" for name in ("train", "validation", "eval"))]


def tracked(config):
    """Bytes by kind after a forward pass, after the backward pass, and after an update."""
    prepared = prepare(config, device=CPU, tell=lambda note: None)
    net = prepared.net.train()
    trained = list(prepared.method.trained(net).values())
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    items = torch.arange(config.training.batch_size).numpy()
    batch = collate(prepared.train, items, pad_id=prepared.tokenizer.pad_token_id)
    tracker = MemTracker()
    for parameter in net.parameters():
        if not parameter.requires_grad:  # The tracker would hook its gradient, which there is none of.
            tracker._param_to_grad_hook_handles[parameter] = (NO_HOOK, NO_HOOK)
    tracker.track_external(net, optimizer, *batch.values())
    found = []
    with tracker:
        for _ in range(2):  # The state of the optimiser exists from the second step on.
            loss = summed_loss(net, batch, prepared.data.kind)
            found.append(tracker.get_tracker_snapshot("current")[CPU])
            loss.backward()
            found.append(tracker.get_tracker_snapshot("current")[CPU])
            optimizer.step()
            found.append(tracker.get_tracker_snapshot("current")[CPU])
            optimizer.zero_grad()
            del loss
            tracker.reset_mod_stats()
    return [{kind.name: size for kind, size in part.items() if hasattr(kind, "name")} for part in found[3:]]


@pytest.mark.parametrize("method", ["full", "lora", "adapter_p", "bitfit"])
def test_every_kind_is_what_torch_attributes_to_it(method, tiny, texts):
    config = tiny(*texts, f"method={method}", "placement=all", "training.dtype=fp32", "training.max_steps=3")
    memory = run_benchmark(config, run_dir_for(config, root_folder(config))).memory
    after_forward, after_backward, after_update = tracked(config)
    assert memory.weight_bytes == after_forward["PARAM"] + after_forward["BUFFER"]
    assert memory.gradient_bytes == after_backward["GRAD"]
    assert memory.optimizer_bytes == pytest.approx(after_update["OPT"], abs=8 * 200)  # A step number for each tensor.
    assert memory.activation_bytes == pytest.approx(after_forward["ACT"], rel=0.01)

"""Time of one forward pass of base, merged, unmerged and adapted networks: Table 1 of the LoRA paper, on this machine.

All networks are in memory together and take turns, A B C A B C, so that whatever else the machine does hits all of
them. A copy of the base takes part as well, and shows what is noise. (It has to be a copy: the same
network twice in a row finds its weights in the cache.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lora_bench.artifacts.checks import check_shapes
from lora_bench.artifacts.network import (
    cast_parameters,
    find_device,
    load_adapted,
    load_base,
    probe_batch,
    try_merge,
)
from lora_bench.artifacts.trained import TrainedRun
from lora_bench.config.schema import TaskKind
from lora_bench.measure.latency import Ratio, Spread, paired_ratio, spread, time_in_turns
from lora_bench.measure.memory import num_values
from lora_bench.methods.fused import unfuse
from lora_bench.models.load import TORCH_DTYPES

BASE, CONTROL = "base", "base, a copy"


@dataclass(frozen=True)
class Cell:
    """One network at one shape of its input."""

    network: str
    batch: int
    length: int
    """Tokens of each text; no padding."""
    time: Spread
    ratio: Ratio
    """To the base in the same round."""
    is_inside_noise: bool
    """Whether it may be equal to the base or to its copy."""


@dataclass(frozen=True)
class Network:
    """One row of the table."""

    name: str
    run: str
    """Empty for the base."""
    is_plain: bool
    """Whether it has the modules and shapes of the base, one by one: then equal time is no accident."""
    num_parameters: int


@dataclass(frozen=True)
class LatencyReport:
    """What was measured."""

    networks: list[Network]
    cells: list[Cell]


def measure_latency(
    runs: Sequence[TrainedRun],
    shapes: Sequence[tuple[int, int]],
    *,
    num_rounds: int,
    num_warmup: int,
    on_shape: Callable[[int, int, int], None] = lambda *_: None,
) -> LatencyReport:
    """Builds every network and times them at each shape.

    Args:
        runs: Of one base. Each gives a merged and an unmerged network, or one alone where it does not merge.
        shapes: Batch size and length in tokens.
        num_rounds: Forward passes of each network that count.
        num_warmup: Rounds before them.
        on_shape: Called before each shape with batch size, length and number of networks.
    """
    check_shapes(runs, shapes)
    nets = build_networks(runs)
    report = LatencyReport([network for network, _ in nets.values()], [])
    for batch, length in shapes:
        on_shape(batch, length, len(nets))
        seconds = time_in_turns(
            {name: _forward(net, (batch, length), runs[0].kind) for name, (_, net) in nets.items()},
            num_rounds=num_rounds,
            num_warmup=num_warmup,
        )
        report.cells.extend(_cell(name, (batch, length), seconds) for name in nets)
    return report


def _cell(name: str, shape: tuple[int, int], seconds: Mapping[str, Sequence[float]]) -> Cell:
    to_base, to_copy = (paired_ratio(seconds[name], seconds[other]) for other in (BASE, CONTROL))
    batch, length = shape
    is_equal = to_base.holds_one or to_copy.holds_one
    return Cell(name, batch, length, time=spread(seconds[name]), ratio=to_base, is_inside_noise=is_equal)


def build_networks(runs: Sequence[TrainedRun]) -> dict[str, tuple[Network, nn.Module]]:
    """Every row with its network, in the dtype of the training; the base stands first and its copy last."""
    device = find_device()
    base: nn.Module = load_base(runs[0]).to(device)
    plain = structure(base)
    built: dict[str, tuple[str, nn.Module]] = {BASE: ("", base)}
    for trained, label in zip(runs, label_runs(runs), strict=True):
        for name, net in _networks_of(trained, label, plain).items():
            built[name] = (trained.name, net.to(device))
    built[CONTROL] = ("", copy.deepcopy(base))
    for _, net in built.values():
        # As from_pretrained gives them. torch's matmul takes another path with a frozen weight (ATen `should_fold`),
        # which for a single last position copies the whole vocabulary matrix: four times the time of a tiny Llama.
        for parameter in net.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    return {
        name: (Network(name, run, structure(net) == plain, sum(map(num_values, net.parameters()))), net)
        for name, (run, net) in built.items()
    }


def structure(net: nn.Module) -> list[tuple[str, str, list[tuple[int, ...]]]]:
    """Every module in order: its name, its class and the shapes of its own parameters."""
    return [
        (name, type(module).__name__, [tuple(parameter.shape) for parameter in module.parameters(recurse=False)])
        for name, module in net.named_modules()
    ]


def label_runs(runs: Sequence[TrainedRun]) -> list[str]:
    """Method, placement and rank; the name of the run where two are alike."""
    labels = []
    for trained in runs:
        lora, placement = trained.config.lora, trained.config.placement
        detail = f" {placement.name} r={lora.r}" if lora is not None and placement is not None else ""
        labels.append(f"{trained.config.method.name}{detail}")
    return [trained.name if labels.count(label) > 1 else label for label, trained in zip(labels, runs, strict=True)]


def _networks_of(trained: TrainedRun, label: str, plain: object) -> dict[str, nn.Module]:
    unmerged = load_adapted(trained).net
    unfuse(unmerged)  # PEFT's own forward is what an unmerged adapter is used with.
    if structure(unmerged) == plain:
        return {label: unmerged}
    merged = try_merge(load_adapted(trained))
    if merged is None:
        return {label: unmerged}
    cast_parameters(merged, TORCH_DTYPES[trained.dtype])
    return {f"{label}, merged": merged, f"{label}, unmerged": unmerged}


def _forward(net: nn.Module, shape: tuple[int, int], kind: TaskKind) -> Callable[[], object]:
    device = next(net.parameters()).device
    inputs: dict[str, Any] = {name: value.to(device) for name, value in probe_batch(net, shape).items()}
    if kind is TaskKind.generation and "decoder_input_ids" not in inputs:
        # The first answer token needs the last position alone; all logits of 32 x 512 tokens would be gigabytes.
        inputs |= {"logits_to_keep": 1, "use_cache": False}
    return partial(_run, net, inputs, device)


@torch.inference_mode()
def _run(net: nn.Module, inputs: Mapping[str, Any], device: torch.device) -> Tensor:
    output: Tensor = net(**inputs).logits
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return output

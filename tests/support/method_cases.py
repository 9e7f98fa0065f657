"""Every registered method on tiny networks of several architectures: what the contract suite runs over."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from support.tiny_architectures import TINY, TINY_PAIRS

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.config.schema import Attention, ModelConfig, RunConfig, Source, TaskKind
from lora_bench.methods import METHODS, Method, Placed, build_method
from lora_bench.models import method_faults
from lora_bench.models.load import load_model
from lora_bench.placing import place
from lora_bench.training.loss import count_targets, summed_loss
from lora_bench.training.optimizer import build_optimizer

ARCHITECTURES = ("bert", "roberta", "gpt2", "llama", "qwen2", "t5", "qwen3_moe")
SMALL = {
    "vera": ("method.r=6",),
    "top_layers": ("method.num_layers=1",),
    "adalora": ("training.max_steps=6", "method.every=2"),
    **dict.fromkeys(("adapter_h", "adapter_l", "adapter_p", "adapter_d"), ("method.bottleneck=3",)),
    **dict.fromkeys(
        ("prefix_embed", "prefix_layer", "lora_prefix_embed", "lora_prefix_layer"), ("method.num_tokens=3",)
    ),
}
"""What a method is told, so that a tiny network can carry it, and four steps see what it does while training."""


@functools.cache
def configure(method: str, *words: str) -> RunConfig:
    """A resolved configuration; resolved once per test process."""
    plain = ["model=tiny", f"method={method}", "placement=qv", "training.dropout=0", "training.batch_size=4"]
    lora = ["lora.r=2", "lora.alpha=33"]  # No power of two, which would round nothing.
    return resolve(compose_config([*plain, *lora, "tracking=none", *SMALL.get(method, ()), *words]))


def configured(method: str, architecture: str, *words: str) -> RunConfig:
    """The same on a tiny network of this architecture."""
    words = ("task=arithmetic", *words) if architecture in TINY_PAIRS else words
    words = ("placement=all", *words) if architecture == "qwen3_moe" else words
    config = copy.deepcopy(configure(method, *words))
    config.model = ModelConfig(
        name=architecture,
        source=Source.random,
        attention=Attention.eager,
        architecture={"model_type": architecture, **(TINY | TINY_PAIRS).get(architecture, {})},
    )
    return config


CASES = [
    (method, architecture)
    for method in METHODS
    for architecture in ARCHITECTURES
    if not method_faults(configured(method, architecture), configured(method, architecture).model.architecture)
]
"""What an architecture cannot carry is refused before anything is loaded, see tests/models/test_carries.py."""


def batch(rows: slice = slice(None), kind: TaskKind = TaskKind.classification) -> dict[str, torch.Tensor]:
    """Four texts of up to 12 tokens, padded on the right, and their classes; or responses of 6 tokens to them."""
    ids = torch.arange(3, 51).reshape(4, 12) % 37 + 3
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 10:] = 0
    texts = {"input_ids": (ids * mask)[rows], "attention_mask": mask[rows]}
    if kind is TaskKind.classification:
        return texts | {"labels": torch.tensor([0, 2, 1, 2])[rows]}
    responses = ids.flip(1)[rows, :6]
    return texts | {"decoder_input_ids": responses.roll(1, 1), "labels": responses}


@dataclass
class Case:
    """A method on a network, after `apply`, with what the network was before."""

    config: RunConfig
    method: Method
    placed: Placed
    net: Any
    base: dict[str, torch.Tensor]
    base_logits: torch.Tensor
    steps_done: int = field(default=0)

    @torch.no_grad()
    def logits(self, net: Any = None) -> torch.Tensor:
        """In evaluation mode, in fp32."""
        net = self.net if net is None else net
        net.eval()
        inputs = batch(kind=self.config.task.kind)
        del inputs["labels"]
        return net(**inputs).logits.float()

    def loss(self, rows: slice = slice(None)) -> torch.Tensor:
        """Summed over the texts of `rows`, as a part of the mean over all four."""
        kind = self.config.task.kind
        return summed_loss(self.net, batch(rows, kind), kind) / count_targets(batch(kind=kind), kind)

    def backward(self, *parts: slice) -> float:
        """The gradients of a step in these micro-batches; returns the loss."""
        losses = [self.loss(rows) for rows in parts or (slice(None),)]
        for loss in losses:
            loss.backward()
        if (penalty := self.method.penalty(self.net)) is not None:
            penalty.backward()
        return sum(float(loss.detach()) for loss in losses)

    def train(self, steps: int = 4, lr: float = 1e-2) -> list[float]:
        """A few steps as the loop does them; returns the losses. Weights in bf16 have no masters here."""
        self.net.train()
        trained = self.method.trained(self.net)
        training = copy.copy(self.config.training)
        training.lr = lr
        factors = [self.method.lr_factor(name) for name in trained]
        optimizer = build_optimizer(trained.values(), training, lr_factors=factors)
        losses = []
        for _ in range(steps):
            losses.append(self.backward())
            optimizer.step()
            self.steps_done += 1
            self.method.after_step(self.net, self.steps_done)
            optimizer.zero_grad()
        self.net.eval()
        return losses


def build_case(
    method: str, architecture: str, *words: str, folder: Path, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Case:
    """Loads, places and applies; the same every time but for what `apply` draws from `seed`."""
    config = configured(method, architecture, *words)
    net = load_model(
        config.model,
        kind=config.task.kind,
        num_labels=3 if config.task.kind is TaskKind.classification else None,
        cache=folder,
        dtype=dtype,
        seed=0,
        dropout=0.0,
        pad_token_id=0,
    )
    base = {name: value.clone() for name, value in net.state_dict().items()}
    case = Case(config, build_method(config), Placed((), ()), net, base, torch.empty(0))
    case.base_logits = case.logits()
    case.placed = place(config, net)
    torch.manual_seed(seed)
    case.net = case.method.apply(net, case.placed)
    if case.method.needs_data:
        case.method.see_data(case.net, repeat(batch()))
    return case

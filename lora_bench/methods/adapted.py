"""What the methods that PEFT carries out have in common: wrapping, saving, loading, merging."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from peft import (
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lora_bench.errors import ModelError
from lora_bench.methods.base import Method, Placed
from lora_bench.methods.quiet import quiet_peft
from lora_bench.methods.tensors import check_shapes, read_tensors
from lora_bench.rundir import OWN_CONFIG_FILE, PEFT_CONFIG_FILE

ADAPTER_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT writes before the names of a network's modules."""
ORIGINAL_HEAD = ".original_module."
"""Where PEFT keeps an unused copy of the head."""
NO_PEFT_FOLDER = (
    "What lora_bench trained, for lora_bench: {reason}, so `PeftModel.from_pretrained` would give other outputs. "
    "`lora-bench export RUN --out DIR` writes PEFT's format and `lora-bench merge` a whole model, where one fits.\n"
)


class AdaptedMethod(Method):
    """A method of PEFT: `peft_config` says which.

    Attributes:
        departs: Why `PeftModel.from_pretrained` on the plain model would not give what was trained; empty where it
            does. Known once `apply` was called.
    """

    departs = ""

    @abstractmethod
    def peft_config(self, placed: Placed) -> PeftConfig:
        """PEFT's own configuration; heads and the kind of task come from `task_words`."""

    def apply(self, net: nn.Module, placed: Placed) -> nn.Module:
        """Wraps the placed matrices in PEFT's layers."""
        if placed.split_modules:
            self.departs = f"its modules are parts of {placed.split_modules[0]} and others, which the plain model fuses"
        elif self.changes_base:
            self.departs = f"method={self.config.method.name} changes the weights that it stands beside"
        with quiet_peft():
            wrapped = get_peft_model(net, self.peft_config(placed))
        assert isinstance(wrapped, nn.Module), "PEFT wraps the network"
        for name, parameter in wrapped.named_parameters():
            # `bias: all` would train the copy too, which nothing reads.
            if ORIGINAL_HEAD in name:
                parameter.requires_grad_(False)
        return wrapped

    def save(self, net: nn.Module, folder: Path) -> None:
        """PEFT's own adapter folder; under another name for its configuration where PEFT would misread it."""
        wrapped = peft_model(net)
        state = {name: value for name, value in wrapped.state_dict().items() if ORIGINAL_HEAD not in name}
        # "auto" would ask the hub whether the vocabulary was resized; embeddings are frozen here.
        wrapped.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
        written = load_file(folder / ADAPTER_FILE)
        if len(kept := _without_copies(written)) < len(written):
            save_file(kept, folder / ADAPTER_FILE, metadata={"format": "pt"})
        if self.departs:
            (folder / PEFT_CONFIG_FILE).rename(folder / OWN_CONFIG_FILE)
            (folder / "README.md").write_text(NO_PEFT_FOLDER.format(reason=self.departs), encoding="utf-8")

    def load(self, net: nn.Module, folder: Path) -> None:
        """The adapter and the head, by name."""
        self.load_tensors(net, read_tensors(folder, ADAPTER_FILE), folder)

    def load_tensors(self, net: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
        """Puts tensors that are called as in PEFT's file into the network.

        Raises:
            ModelError: If names or shapes are not the network's; nothing was copied then.
        """
        own = _without_copies(get_peft_model_state_dict(peft_model(net), save_embedding_layers=False))
        differing = sorted(set(own) ^ set(tensors))
        if differing:
            raise ModelError(f"{folder}: belongs to another model or method; {differing[:3]} are on one side only")
        check_shapes(own, tensors, folder / ADAPTER_FILE)
        with quiet_peft():
            set_peft_model_state_dict(peft_model(net), tensors)

    def merge(self, net: nn.Module) -> nn.Module | None:
        """The adapters folded into the weights, in their dtype.

        Module by module, since PEFT 0.21's `merge_and_unload` fails for VeRA and (IA)^3 on a head of several matrices.
        """
        base = peft_model(net).get_base_model()
        for name, module in list(base.named_modules()):
            if isinstance(module, AuxiliaryTrainingWrapper):
                base.set_submodule(name, module.unload_and_optionally_merge_module(True, True, None))
            elif isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)
                base.set_submodule(name, module.get_base_layer())
        del base.peft_config
        assert isinstance(base, nn.Module), "what was wrapped is a network"
        return base


def _without_copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where all biases are trained, PEFT 0.21 names that of the head twice more, and cannot read those names."""
    return {
        name: value
        for name, value in tensors.items()
        if ".modules_to_save." not in name and ORIGINAL_HEAD not in f"{name}."
    }


def peft_model(net: nn.Module) -> PeftModel:
    """The network as what `apply` made of it."""
    assert isinstance(net, PeftModel), "apply wraps the network"
    return net


def task_words(placed: Placed) -> dict[str, object]:
    """What every configuration of PEFT is told about the task."""
    language = TaskType.SEQ_2_SEQ_LM if placed.has_encoder else TaskType.CAUSAL_LM
    return {
        "modules_to_save": list(placed.head_modules) or None,
        "task_type": TaskType.SEQ_CLS if placed.head_modules else language,
    }

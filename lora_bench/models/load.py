"""Loads tokenizers and networks, and says where a network's weights came from.

Nothing here reads a pickle or runs code of a repository that the user did not name. The report that
transformers prints about missing and dropped weights is replaced by a check: only a new task head may be
missing, and nothing of the base may be dropped.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lora_bench.config.schema import Dtype, ModelConfig, Source, TaskKind
from lora_bench.errors import ConfigError, Fault, ModelError
from lora_bench.models.catalog import GGUF, allows_code, find_tokenizer, kind_faults, locate, read_architecture
from lora_bench.models.convert import converted_tokenizer, converted_weights
from lora_bench.models.digests import weights_digest
from lora_bench.models.heads import draw_head, new_parameter_names
from lora_bench.models.quiet import quiet
from lora_bench.models.sizes import decoder_start

__all__ = [
    "TORCH_DTYPES",
    "auto_class",
    "load_model",
    "load_tokenizer",
    "weights_digest",
]

TORCH_DTYPES = {Dtype.fp32: torch.float32, Dtype.bf16: torch.bfloat16}
"""What weights are loaded in."""

BASE_SEED = 0
"""Random bases are the same for every seed of a run, as a pretrained file would be."""
_OTHER_HEADS = re.compile(
    r"(\w+\.)?(lm_head|embed_out|cls|classifier|score|pooler|lm_predictions|mask_predictions|qa_outputs|"
    r"vocab_transform|vocab_layer_norm|vocab_projector|discriminator_predictions|generator_predictions)\."
)
"""Weights of a checkpoint that another task's network may leave out. `pooler` belongs to BERT's base, but where
the network at hand has no pooler nothing reads it."""
_BUFFERS = re.compile(r".*(position_ids|token_type_ids|(attn|attention)\.(masked_)?bias|rotary_emb\.inv_freq)")
"""Constants that older versions of transformers saved beside the weights."""


def load_tokenizer(model: ModelConfig, *, cache: Path) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, or the embedded one that serves random weights.

    It always has a pad token; where the model has none it is the end token, so padding is known by the
    attention mask alone.

    Raises:
        ModelError: If there is none or it cannot be read.
    """
    path = find_tokenizer(model.tokenizer) if model.source is Source.random else locate(model)
    folder = converted_tokenizer(path, cache=cache) if path.suffix == GGUF else path
    with quiet(), _explained(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=allows_code(model))
    if tokenizer.eos_token is None:
        # BERT's tokenizer may serve a random decoder, which has to end somewhere.
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    model: ModelConfig,
    *,
    kind: TaskKind,
    num_labels: int | None,
    cache: Path,
    dtype: torch.dtype,
    seed: int,
    dropout: float | None,
    pad_token_id: int | None,
    device: str = "cpu",
) -> PreTrainedModel:
    """The network with its task head, in evaluation mode.

    Args:
        model: Which weights.
        kind: Classification puts a new head on the base; generation keeps the language-model head.
        num_labels: Classes; classification needs it.
        cache: Folder for converted weights.
        dtype: Of all weights. Values are drawn in fp32 first, so they do not depend on it beyond rounding.
        seed: Draws the new head and nothing else.
        dropout: Probability for every dropout of the architecture; None keeps what its configuration says.
        pad_token_id: The tokenizer's; decoders with a classifier look for the last token before it.
        device: Where the weights go; `meta` has shapes only and needs no weights from anywhere.

    Raises:
        ConfigError: If transformers does not know the architecture.
        ModelError: If weights are missing, damaged or do not fit, or the network cannot do this kind of task.
    """
    assert (num_labels is not None) == (kind is TaskKind.classification), "classes are what classification has"
    options = {} if num_labels is None else {"num_labels": num_labels}
    if device == "meta" or model.source is Source.random:
        config = _build_config(read_architecture(model), options)
        _set_dropout(config, dropout)
        net, is_head_new = _build(model, config, kind=kind, dtype=dtype, device=device), True
    else:
        folder = _weights_folder(model, cache)
        with quiet(), _explained(folder):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=allows_code(model), **options)
        _set_dropout(config, dropout)
        net, is_head_new = _read(model, config, folder=folder, kind=kind, dtype=dtype)
    if is_head_new and device != "meta":
        draw_head(net, seed)
    # Set after building: earlier it would become the padding row of the embedding, which never learns.
    net.config.pad_token_id = pad_token_id
    if net.can_generate():
        net.generation_config.pad_token_id = pad_token_id
    return net.to(device).eval()


def checkpoint_activations(net: PreTrainedModel) -> None:
    """Has each layer keep its input alone in training, and compute the rest again in the backward pass.

    Raises:
        ModelError: If the architecture cannot.
    """
    if not net.supports_gradient_checkpointing:
        kind = net.config.model_type
        raise ModelError(f"{kind} cannot compute activations again; use training.activation_checkpointing=false")
    # The other way wants inputs with gradients, which the frozen embeddings of an adapter's base do not give.
    net.gradient_checkpointing_enable({"use_reentrant": False})
    net.config.use_cache = False


class _DrawInFp32(TorchFunctionMode):
    """Random numbers do not depend on the dtype that they are kept in."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.normal_ and args[0].dtype in (torch.bfloat16, torch.float16):
            drawn = torch.empty(args[0].shape, dtype=torch.float32, device=args[0].device)
            return args[0].copy_(drawn.normal_(*args[1:], **kwargs))
        return func(*args, **kwargs)


def _build_config(architecture: Mapping[str, Any], options: Mapping[str, Any]) -> PretrainedConfig:
    try:
        blank = AutoConfig.for_model(str(architecture.get("model_type")))
    except ValueError as err:
        given = architecture.get("model_type")
        raise ConfigError([Fault("model.architecture.model_type", f"'{given}' is unknown to transformers")]) from err
    return type(blank).from_dict({**architecture, **options})


def _set_dropout(config: PretrainedConfig, dropout: float | None) -> None:
    """Sets every dropout probability; their names differ by architecture but all contain one of two words."""
    if dropout is None:
        return
    for key, value in config.to_dict().items():
        is_probability = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_probability and ("dropout" in key or "pdrop" in key):
            setattr(config, key, dropout)


def _build(
    model: ModelConfig, config: PretrainedConfig, *, kind: TaskKind, dtype: torch.dtype, device: str
) -> PreTrainedModel:
    where = torch.device("meta") if device == "meta" else contextlib.nullcontext()
    with quiet(), _explained(model.name), torch.random.fork_rng(devices=[]), where, _DrawInFp32():
        torch.default_generator.manual_seed(BASE_SEED)
        return _auto(model, config, kind).from_config(config, dtype=dtype, attn_implementation=model.attention.value)


def _read(
    model: ModelConfig, config: PretrainedConfig, *, folder: Path, kind: TaskKind, dtype: torch.dtype
) -> tuple[PreTrainedModel, bool]:
    """The network from a folder, and whether its head is new."""
    auto = _auto(model, config, kind)
    with quiet(), _explained(folder), torch.random.fork_rng(devices=[]):
        net, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=model.attention.value,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=allows_code(model),
            ignore_mismatched_sizes=True,  # A head for other classes is drawn anew; `_check_weights` refuses the rest.
            output_loading_info=True,
        )
    absent = set(info["missing_keys"]) | {entry[0] for entry in info["mismatched_keys"]}
    _check_weights(net, folder, absent=absent, dropped=info["unexpected_keys"])
    return net, bool(absent)


def _check_weights(net: PreTrainedModel, folder: Path, *, absent: set[str], dropped: set[str]) -> None:
    random = sorted(absent - set(new_parameter_names(net)))
    if random:
        raise ModelError(
            f"{folder}: lacks or has in another shape {_some(random)} of {type(net).__name__}, which would stay "
            f"random; the folder holds another network than its config.json says, or only a part of one"
        )
    lost = sorted(key for key in dropped if not _OTHER_HEADS.match(key) and not _BUFFERS.fullmatch(key))
    if lost:
        raise ModelError(
            f"{folder}: holds {_some(lost)}, which {type(net).__name__} has no place for; "
            f"its config.json does not belong to these weights"
        )


def _auto(model: ModelConfig, config: PretrainedConfig, kind: TaskKind) -> Any:
    faults = kind_faults(model, config.model_type, kind)
    if faults:
        raise ModelError(faults[0].problem)
    return auto_class(kind, has_encoder=decoder_start(config.to_dict()) is not None)


def auto_class(kind: TaskKind, *, has_encoder: bool) -> Any:
    """The class of transformers that loads weights with this head."""
    if kind is TaskKind.classification:
        return AutoModelForSequenceClassification
    return AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM


def _weights_folder(model: ModelConfig, cache: Path) -> Path:
    path = locate(model)
    return converted_weights(path, cache=cache) if path.suffix == GGUF else path


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@contextlib.contextmanager
def _explained(what: Path | str) -> Iterator[None]:
    """Running out of memory is a RuntimeError and passes: the run records it as a result."""
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as err:
        # Some of these messages list every class that transformers knows.
        reason = str(err).partition("\n")[0]
        raise ModelError(f"{what}: cannot be loaded ({reason})") from err

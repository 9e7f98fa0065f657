"""Texts as token ids: tokenised once, then read from the cache. Needs no torch.

    classification   the tokenizer's own pattern, such as [CLS] text [SEP]; a longer text loses its end
    generation       prompt (with the tokenizer's start token, if it has one), response, end-of-text token; a longer
                     prompt loses its middle, because instructions stand at either end (LongBench, arXiv:2308.14508,
                     section 3.1). A response is cut, at its end, only where it does not fit with one token of prompt

Prompt and response are tokenised apart, so that a prompt has the same tokens in training and in generation.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_bench.config.schema import TaskKind
from lora_bench.errors import DataError
from lora_bench.rundir import TEMPORARY_MARK
from lora_bench.tasks.base import Example

_VERSION = 1
"""Of the way of encoding; a new number leaves older cache files unread."""


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """One split as a flat array of token ids. Items keep the order of the examples."""

    item_ids: tuple[str, ...]
    tokens: NDArray[np.int32]
    """All items one after the other, shape (num_tokens,)."""
    offsets: NDArray[np.int64]
    """Item i is `tokens[offsets[i] : offsets[i + 1]]`, shape (items + 1,)."""
    labels: NDArray[np.int64] | None
    """Classes, shape (items,); None for generation."""
    prompt_lengths: NDArray[np.int64] | None
    """Tokens of each item that are prompt, at least 1, shape (items,); None for classification."""
    max_length: int
    """Longest item allowed, in tokens."""
    num_cut: int
    """Items that were longer."""
    num_cut_responses: int
    """Items of those whose response lost its end."""
    start_id: int | None = None
    """Token before the response where a decoder of its own reads it, and an encoder the prompt; else None."""

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each item, shape (items,)."""
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        """Tokens of all items, special tokens counted."""
        return len(self.tokens)

    @property
    def padded_apart(self) -> tuple[NDArray[np.int64], ...]:
        """Lengths of the texts that a batch pads each to its longest, shape (items,) each: prompt and response apart
        where two networks read them, else the whole item."""
        if self.start_id is None or self.prompt_lengths is None:
            return (self.lengths,)
        return self.prompt_lengths, self.lengths - self.prompt_lengths

    def cut_note(self, name: str) -> str | None:
        """What a reader of the results must know about cut items; None if there are none."""
        if not self.num_cut:
            return None
        note = f"{self.num_cut} of {len(self)} {name} texts cut to {self.max_length} tokens"
        return f"{note}, {self.num_cut_responses} of them in the response" if self.num_cut_responses else note


@dataclass(frozen=True, eq=False)
class _Tokens:
    """What the cache holds: everything that tokenising costs."""

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    prompt_lengths: NDArray[np.int64]
    num_cut: NDArray[np.int64]
    """Items cut, and items cut in the response, shape (2,)."""


def encode(
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    kind: TaskKind,
    max_length: int,
    cache: Path | None,
    start_id: int | None = None,
) -> EncodedSplit:
    """Token ids of a split, from the cache if the same texts were encoded before in the same way.

    Args:
        examples: With `label` for classification, with `response` for generation.
        tokenizer: A transformers tokenizer.
        kind: Which of the two patterns.
        max_length: Longest item in tokens; the caller sees to it that the model can take that.
        cache: Folder for token files; None keeps nothing. A damaged file is made anew.
        start_id: Of a model whose decoder reads the response and whose encoder reads the prompt (`decoder_start`).

    Raises:
        DataError: If the cache cannot be written, or a generation task meets a tokenizer without end-of-text token.
    """
    is_generation = kind is TaskKind.generation
    if is_generation and tokenizer.eos_token_id is None:
        raise DataError(
            "model: its tokenizer has no end-of-text token, which a generation task needs; use another model"
        )
    path = None
    if cache is not None:
        path = cache / "tokens" / f"{_cache_key(examples, tokenizer, kind=kind, limit=max_length)}.npz"
    found = _read_cache(path, num_items=len(examples)) if path else None
    if found is None:
        tokenise = _tokenise_pairs if is_generation else _tokenise_texts
        found = tokenise(examples, tokenizer, max_length)
        if path:
            _write_cache(path, found)
    return EncodedSplit(
        item_ids=tuple(item.item_id for item in examples),
        tokens=found.tokens,
        offsets=found.offsets,
        labels=None if is_generation else np.array([item.label for item in examples], dtype=np.int64),
        prompt_lengths=found.prompt_lengths if is_generation else None,
        max_length=max_length,
        num_cut=int(found.num_cut[0]),
        num_cut_responses=int(found.num_cut[1]),
        start_id=start_id if is_generation else None,
    )


def _tokenise_texts(examples: Sequence[Example], tokenizer: Any, limit: int) -> _Tokens:
    texts = [item.text for item in examples]
    ids = _ids(tokenizer, texts)
    long = [index for index, item in enumerate(ids) if len(item) > limit]
    # Only these go through the tokenizer again, which knows which special tokens must stay.
    for index, item in zip(long, _ids(tokenizer, [texts[i] for i in long], limit=limit), strict=True):
        ids[index] = item
    return _pack(ids, prompt_lengths=[0] * len(ids), num_cut=len(long), num_cut_responses=0)


def _tokenise_pairs(examples: Sequence[Example], tokenizer: Any, limit: int) -> _Tokens:
    eos = tokenizer.eos_token_id
    prompts = _ids(tokenizer, [item.text for item in examples])
    responses = _ids(tokenizer, [item.response or "" for item in examples], special=False)
    ids, prompt_lengths, num_cut, num_cut_responses = [], [], 0, 0
    for prompt, response in zip(prompts, responses, strict=True):
        # GPT-2's way where nothing else stands before the first token that is to be predicted.
        prompt = prompt or [eos]
        answer = [*response, eos]
        num_cut += len(prompt) + len(answer) > limit
        num_cut_responses += len(answer) > limit - 1
        answer = answer[: limit - 1]
        prompt = _cut_middle(prompt, limit - len(answer))
        ids.append(prompt + answer)
        prompt_lengths.append(len(prompt))
    return _pack(ids, prompt_lengths=prompt_lengths, num_cut=num_cut, num_cut_responses=num_cut_responses)


def _ids(tokenizer: Any, texts: list[str], *, special: bool = True, limit: int | None = None) -> list[list[int]]:
    """Token ids of all texts in one call; the tokenizer is left without a truncation, as it was found."""
    if not texts:
        return []
    wanted = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    cut = {"truncation": limit is not None, "max_length": limit}
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=special, **wanted, **cut)["input_ids"]
    return ids


def _cut_middle(ids: list[int], length: int) -> list[int]:
    if len(ids) <= length:
        return ids
    head = (length + 1) // 2
    return ids[:head] + ids[len(ids) - (length - head) :]


def _pack(ids: list[list[int]], *, prompt_lengths: list[int], num_cut: int, num_cut_responses: int) -> _Tokens:
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(item) for item in ids], out=offsets[1:])
    tokens = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(offsets[-1]))
    cut = np.array([num_cut, num_cut_responses], dtype=np.int64)
    return _Tokens(tokens, offsets, np.array(prompt_lengths, dtype=np.int64), cut)


def _cache_key(examples: Sequence[Example], tokenizer: Any, *, kind: TaskKind, limit: int) -> str:
    head = [_VERSION, kind.value, limit, type(tokenizer).__name__, tokenizer.eos_token_id, tokenizer.truncation_side]
    digest = hashlib.sha256(json.dumps(head).encode())
    digest.update(_tokenizer_content(tokenizer).encode())
    for item in examples:
        digest.update(json.dumps([item.text, item.response]).encode())
    return digest.hexdigest()


def _tokenizer_content(tokenizer: Any) -> str:
    """Everything that decides about token ids: vocabulary, merges, normalisation and pattern."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps([tokenizer.get_vocab(), tokenizer.init_kwargs], sort_keys=True, default=str)
    # Padding and truncation are set anew by each call and say nothing about the tokenizer.
    backend.no_padding()
    backend.no_truncation()
    content: str = backend.to_str()
    return content


def _read_cache(path: Path, *, num_items: int) -> _Tokens | None:
    """What was written before; None if it is not there, damaged or does not fit."""
    # The zip container checks each array against its CRC on reading.
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            found = _Tokens(**{name: arrays[name] for name in _Tokens.__dataclass_fields__})
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None
    fits = found.offsets.shape == (num_items + 1,) and found.prompt_lengths.shape == (num_items,)
    return found if fits and found.offsets[-1] == len(found.tokens) else None


def _write_cache(path: Path, tokens: _Tokens) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: getattr(tokens, name) for name in _Tokens.__dataclass_fields__})
    partial = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not synced: a file that a power cut damages is found by its CRC and made anew.
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, path)
    except OSError as err:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        problem = f"paths.cache: {path.parent} cannot be written ({err.strerror}); set paths.cache to a folder that can"
        raise DataError(problem) from err

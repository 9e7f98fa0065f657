"""Texts as token ids: tokenised once, then read from the cache. Needs no torch.

    classification   the tokenizer's own pattern, such as [CLS] text [SEP]; a longer text loses its end. Of two texts
                     too (BERT's [CLS] one [SEP] other [SEP]), the longer losing its end first; a tokenizer that puts
                     nothing between two texts gets them with a line break between
    generation       prompt (with the tokenizer's start token, if it has one), response, end-of-text token; a longer
                     prompt loses its middle, because instructions stand at either end (LongBench, arXiv:2308.14508,
                     section 3.1). A response is cut, at its end, only where it does not fit with one token of prompt.
                     Turns of a conversation are rendered by the tokenizer's chat template, where it has one

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

_VERSION = 2
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
    segments: NDArray[np.int8] | None = None
    """Which of two texts each token belongs to, shape (num_tokens,), for networks that read it; else None."""
    num_unknown: int = 0
    """Tokens that stand for something that the tokenizer does not know."""
    num_all_unknown: int = 0
    """Items of which it knows nothing at all."""
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
    def highest_id(self) -> int:
        """The largest token id of all items, and of what starts a response."""
        return max(int(self.tokens.max(initial=0)), self.start_id or 0)

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

    def unknown_note(self, name: str) -> str | None:
        """Return what a reader must know about tokens that the tokenizer does not know; None if there are none."""
        if not self.num_unknown:
            return None
        note = f"{self.num_unknown / self.num_tokens:.1%} of the {name} tokens are unknown to the tokenizer"
        if not self.num_all_unknown:
            return note
        return (
            f"{note}, which knows nothing of {self.num_all_unknown:,} of {len(self):,} texts; is it of this language?"
        )


@dataclass(frozen=True, eq=False)
class _Tokens:
    """What the cache holds: everything that tokenising costs."""

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    prompt_lengths: NDArray[np.int64]
    num_cut: NDArray[np.int64]
    """Items cut, and items cut in the response, shape (2,)."""
    segments: NDArray[np.int8]
    """Of the tokens, where there are two texts; else empty."""


def encode(
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    kind: TaskKind,
    max_length: int,
    cache: Path | None,
    start_id: int | None = None,
    reads_segments: bool = False,
) -> EncodedSplit:
    """Token ids of a split, from the cache if the same texts were encoded before in the same way.

    Args:
        examples: With `label` for classification, with `response` for generation.
        tokenizer: A transformers tokenizer.
        kind: Which of the two patterns.
        max_length: Longest item in tokens; the caller sees to it that the model can take that.
        cache: Folder for token files; None keeps nothing. A damaged file is made anew.
        reads_segments: Whether the network tells two texts apart by `token_type_ids`, as BERT does.
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
        tokenise = _tokenise_answers if is_generation else _tokenise_texts
        found = tokenise(examples, tokenizer, max_length)
        if path:
            _write_cache(path, found)
    num_unknown, num_all_unknown = _count_unknown(found, tokenizer)
    has_segments = reads_segments and len(found.segments) > 0
    return EncodedSplit(
        item_ids=tuple(item.item_id for item in examples),
        tokens=found.tokens,
        offsets=found.offsets,
        labels=None if is_generation else np.array([item.label for item in examples], dtype=np.int64),
        prompt_lengths=found.prompt_lengths if is_generation else None,
        max_length=max_length,
        num_cut=int(found.num_cut[0]),
        num_cut_responses=int(found.num_cut[1]),
        segments=found.segments if has_segments else None,
        num_unknown=num_unknown,
        num_all_unknown=num_all_unknown,
        start_id=start_id if is_generation else None,
    )


def _tokenise_texts(examples: Sequence[Example], tokenizer: Any, limit: int) -> _Tokens:
    if any(item.text_pair is not None for item in examples):
        return _tokenise_pairs(examples, tokenizer, limit)
    texts = [item.text for item in examples]
    ids = _ids(tokenizer, texts)
    long = [index for index, item in enumerate(ids) if len(item) > limit]
    # Only these go through the tokenizer again, which knows which special tokens must stay.
    for index, item in zip(long, _ids(tokenizer, [texts[i] for i in long], limit=limit), strict=True):
        ids[index] = item
    return _pack(ids, prompt_lengths=[0] * len(ids), num_cut=len(long), num_cut_responses=0)


def _tokenise_pairs(examples: Sequence[Example], tokenizer: Any, limit: int) -> _Tokens:
    texts, pairs = [item.text for item in examples], [item.text_pair or "" for item in examples]
    if not _separates(tokenizer):
        # The second text keeps the break that says where it begins.
        pairs = [f"\n{pair}" for pair in pairs]
    wanted = {"return_attention_mask": False, "return_token_type_ids": True, "verbose": False}
    whole = tokenizer(texts, pairs, **wanted)
    ids, segments = list(whole["input_ids"]), list(whole["token_type_ids"])
    long = [index for index, item in enumerate(ids) if len(item) > limit]
    if long:
        some = [texts[index] for index in long], [pairs[index] for index in long]
        cut = tokenizer(*some, truncation="longest_first", max_length=limit, **wanted)
        for index, tokens, of in zip(long, cut["input_ids"], cut["token_type_ids"], strict=True):
            ids[index], segments[index] = tokens, of
    return _pack(ids, prompt_lengths=[0] * len(ids), num_cut=len(long), num_cut_responses=0, segments=segments)


def _separates(tokenizer: Any) -> bool:
    """Whether the tokenizer's pattern of two texts has a special token between them."""
    apart = len(_ids(tokenizer, ["a"], special=False)[0])
    both = tokenizer("a", "a", return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    one = _ids(tokenizer, ["a"])[0]
    return len(both) > len(one) + apart


def _tokenise_answers(examples: Sequence[Example], tokenizer: Any, limit: int) -> _Tokens:
    eos = tokenizer.eos_token_id
    prompts = _prompt_ids(examples, tokenizer)
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


def _prompt_ids(examples: Sequence[Example], tokenizer: Any) -> list[list[int]]:
    """Prompts with the tokenizer's start token; turns with what its chat template puts around them."""
    if not (getattr(tokenizer, "chat_template", None) and any(item.messages for item in examples)):
        return _ids(tokenizer, [item.text for item in examples])
    rendered = []
    for item in examples:
        turns = [{"role": role, "content": content} for role, content in item.messages]
        try:
            rendered.append(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as err:  # jinja's, from a template that raises what it likes
            problem = f"the tokenizer's chat template refuses {item.item_id} ({str(err).splitlines()[0]})"
            advice = "change its roles, or use a model without a template, which reads plain text"
            raise DataError(f"task.messages: {problem}; {advice}") from err
    # The template has put the start token where it wants it.
    return _ids(tokenizer, rendered, special=False)


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


def _count_unknown(found: _Tokens, tokenizer: Any) -> tuple[int, int]:
    """Unknown tokens, and items in which everything but special tokens is unknown."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    # GPT-2's unknown token is its end-of-text token, and bytes leave nothing unknown.
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.pad_token_id) or not len(found.tokens):
        return 0, 0
    is_unknown = found.tokens == unknown
    num_unknown = int(is_unknown.sum())
    if not num_unknown:
        return 0, 0
    others = [index for index in tokenizer.all_special_ids if index != unknown]
    is_known = ~is_unknown & ~np.isin(found.tokens, others)
    starts = found.offsets[:-1]
    # reduceat sums to the next start; every item has a token.
    known, unknowns = np.add.reduceat(is_known, starts), np.add.reduceat(is_unknown, starts)
    return num_unknown, int(((known == 0) & (unknowns > 0)).sum())


def _pack(
    ids: list[list[int]],
    *,
    prompt_lengths: list[int],
    num_cut: int,
    num_cut_responses: int,
    segments: list[list[int]] | None = None,
) -> _Tokens:
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(item) for item in ids], out=offsets[1:])
    tokens = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(offsets[-1]))
    cut = np.array([num_cut, num_cut_responses], dtype=np.int64)
    of_token = np.fromiter(chain.from_iterable(segments or []), dtype=np.int8)
    return _Tokens(tokens, offsets, np.array(prompt_lengths, dtype=np.int64), cut, of_token)


def _cache_key(examples: Sequence[Example], tokenizer: Any, *, kind: TaskKind, limit: int) -> str:
    head = [_VERSION, kind.value, limit, type(tokenizer).__name__, tokenizer.eos_token_id, tokenizer.truncation_side]
    if any(item.messages for item in examples):
        head.append(tokenizer.chat_template)
    digest = hashlib.sha256(json.dumps(head).encode())
    digest.update(_tokenizer_content(tokenizer).encode())
    for item in examples:
        digest.update(json.dumps([item.text, item.response, item.text_pair, item.messages]).encode())
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
    fits = fits and len(found.segments) in (0, len(found.tokens))
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

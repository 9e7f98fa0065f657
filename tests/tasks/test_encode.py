"""Oracle: the tokenizer itself, called for one text at a time; and the number of its calls."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from support.tiny_tokenizer import decoder_tokenizer, encoder_tokenizer

from lora_bench.config.schema import TaskKind, TweetSentimentConfig
from lora_bench.errors import DataError
from lora_bench.tasks import Example, load_task
from lora_bench.tasks.encode import encode

CLASSES, TEXTS = TaskKind.classification, TaskKind.generation


@pytest.fixture(scope="module")
def tweets():
    return load_task(TweetSentimentConfig(num_train=300)).train


class Counting:
    """A tokenizer that counts the texts it is asked for."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.num_texts = 0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, texts, *pairs, **options):
        self.num_texts += len(texts)
        return self._tokenizer(texts, *pairs, **options)


def items_of(split):
    return [split.tokens[a:b].tolist() for a, b in zip(split.offsets, split.offsets[1:], strict=False)]


def test_real_tweets_as_the_tokenizer_has_them_one_by_one(tweets):
    tokenizer = encoder_tokenizer()
    split = encode(tweets, tokenizer, kind=CLASSES, max_length=40, cache=None)
    wanted = [tokenizer(item.text, truncation=True, max_length=40)["input_ids"] for item in tweets]
    assert items_of(split) == wanted
    assert split.lengths.tolist() == [len(item) for item in wanted]
    assert split.num_tokens == sum(len(item) for item in wanted)
    assert split.num_cut == sum(len(tokenizer(item.text)["input_ids"]) > 40 for item in tweets) > 10
    assert split.cut_note("train") == f"{split.num_cut} of 300 train texts cut to 40 tokens"
    assert split.labels.tolist() == [item.label for item in tweets]
    assert split.item_ids == tuple(item.item_id for item in tweets)
    assert (split.tokens.dtype, split.offsets.dtype, split.labels.dtype) == (np.int32, np.int64, np.int64)
    assert split.prompt_lengths is None


def test_nothing_cut_says_nothing(tweets):
    assert encode(tweets, encoder_tokenizer(), kind=CLASSES, max_length=512, cache=None).cut_note("train") is None


def test_prompt_response_and_end():
    tokenizer = decoder_tokenizer()
    split = encode([Example("a", "the cat:", response=" sat")], tokenizer, kind=TEXTS, max_length=32, cache=None)
    prompt, response = tokenizer("the cat:")["input_ids"], tokenizer(" sat")["input_ids"]
    assert items_of(split) == [[*prompt, *response, tokenizer.eos_token_id]]
    assert split.prompt_lengths.tolist() == [len(prompt)]
    assert split.labels is None


def test_long_prompt_loses_its_middle_and_no_response():
    tokenizer = decoder_tokenizer()
    prompt, response = "zabcdefghijklmnopqrstuvwxy", " uvw"
    ids = tokenizer(prompt)["input_ids"]
    answer = [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]
    limit = len(answer) + 7
    split = encode([Example("a", prompt, response=response)], tokenizer, kind=TEXTS, max_length=limit, cache=None)
    assert items_of(split) == [[*ids[:4], *ids[-3:], *answer]]
    assert split.prompt_lengths.tolist() == [7]
    assert (split.num_cut, split.num_cut_responses) == (1, 0)


def test_response_that_leaves_no_room_keeps_one_token_of_prompt_and_no_end():
    tokenizer = decoder_tokenizer()
    ids = tokenizer(" xyzvwqkjxyz")["input_ids"]
    examples = [Example("a", "prompt", response=" xyzvwqkjxyz"), Example("b", "a", response=" b")]
    split = encode(examples, tokenizer, kind=TEXTS, max_length=6, cache=None)
    assert len(ids) > 5
    assert items_of(split)[0] == [tokenizer("prompt")["input_ids"][0], *ids[:5]]
    assert split.prompt_lengths[0] == 1
    assert (split.num_cut, split.num_cut_responses) == (1, 1)
    assert split.cut_note("eval") == "1 of 2 eval texts cut to 6 tokens, 1 of them in the response"


def test_prompt_without_tokens_starts_with_the_end_token():
    tokenizer = decoder_tokenizer()
    split = encode([Example("a", "", response="a")], tokenizer, kind=TEXTS, max_length=8, cache=None)
    assert items_of(split)[0][0] == tokenizer.eos_token_id
    assert split.prompt_lengths.tolist() == [1]


def test_tokenizer_without_end_token_is_refused():
    with pytest.raises(DataError, match="no end-of-text token, which a generation task needs; use another model"):
        encode([Example("a", "b", response="c")], encoder_tokenizer(), kind=TEXTS, max_length=8, cache=None)


@pytest.mark.parametrize("kind", [CLASSES, TEXTS])
def test_second_time_reads_the_cache(tmp_path, tweets, kind):
    tokenizer = Counting(encoder_tokenizer() if kind is CLASSES else decoder_tokenizer())
    examples = [Example(item.item_id, item.text, label=item.label, response=" yes") for item in tweets]
    first = encode(examples, tokenizer, kind=kind, max_length=24, cache=tmp_path)
    asked = tokenizer.num_texts
    assert asked >= len(tweets)
    again = encode(examples, tokenizer, kind=kind, max_length=24, cache=tmp_path)
    assert tokenizer.num_texts == asked
    assert len(list(tmp_path.rglob("*"))) == 2
    for name in ("tokens", "offsets", "labels", "prompt_lengths"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
    assert (first.num_cut, first.num_cut_responses) == (again.num_cut, again.num_cut_responses)
    assert first.num_cut > 0


def test_classes_and_names_are_not_cached(tmp_path, tweets):
    tokenizer = Counting(encoder_tokenizer())
    encode(tweets, tokenizer, kind=CLASSES, max_length=24, cache=tmp_path)
    asked = tokenizer.num_texts
    changed = [Example("x", item.text, label=2 - item.label) for item in tweets]
    split = encode(changed, tokenizer, kind=CLASSES, max_length=24, cache=tmp_path)
    assert tokenizer.num_texts == asked
    assert split.labels.tolist() == [item.label for item in changed]
    assert split.item_ids == ("x",) * len(tweets)


def test_text_length_pattern_or_tokenizer_of_another_kind_is_another_file(tmp_path):
    examples = [Example("a", "the cat", label=0, response=" sat")]
    decoder, encoder = decoder_tokenizer(), encoder_tokenizer()
    other = [Example("a", "the cat!", label=0, response=" sat")]
    longer = [Example("a", "the cat", label=0, response=" sat on")]
    ways = [
        (examples, decoder, CLASSES, 8),
        (examples, decoder, TEXTS, 8),
        (examples, decoder, CLASSES, 9),
        (other, decoder, CLASSES, 8),
        (longer, decoder, TEXTS, 8),
        (examples, encoder, CLASSES, 8),
    ]
    for items, tokenizer, kind, length in ways:
        encode(items, tokenizer, kind=kind, max_length=length, cache=tmp_path)
    assert len(list((tmp_path / "tokens").iterdir())) == len(ways)


def test_padding_and_truncation_of_an_earlier_call_leave_the_key_alone(tmp_path, tweets):
    tokenizer = Counting(encoder_tokenizer())
    encode(tweets, tokenizer, kind=CLASSES, max_length=24, cache=tmp_path)
    tokenizer._tokenizer(["a b c", "d"], padding=True, truncation=True, max_length=3)
    asked = tokenizer.num_texts
    encode(tweets, tokenizer, kind=CLASSES, max_length=24, cache=tmp_path)
    assert tokenizer.num_texts == asked


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "noise", "foreign"])
def test_damaged_cache_is_made_anew(tmp_path, tweets, damage):
    tokenizer = Counting(encoder_tokenizer())
    first = encode(tweets, tokenizer, kind=CLASSES, max_length=24, cache=tmp_path)
    (path,) = (tmp_path / "tokens").iterdir()
    whole, asked = path.read_bytes(), tokenizer.num_texts
    encode(tweets[:5], tokenizer, kind=CLASSES, max_length=24, cache=tmp_path / "other")
    (foreign,) = (tmp_path / "other" / "tokens").iterdir()
    middle = len(whole) // 3
    damaged = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "noise": b"\x80\x04noise",
        "foreign": foreign.read_bytes(),
    }
    path.write_bytes(damaged[damage])
    tokenizer.num_texts = 0
    again = encode(tweets, tokenizer, kind=CLASSES, max_length=24, cache=tmp_path)
    assert tokenizer.num_texts == asked
    assert np.array_equal(first.tokens, again.tokens)
    encode(tweets, tokenizer, kind=CLASSES, max_length=24, cache=tmp_path)
    assert tokenizer.num_texts == asked


def test_cache_that_cannot_be_written_says_what_to_set(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"paths.cache: .*file/tokens cannot be written .*; set paths.cache to a folder"
    ):
        encode([Example("a", "b", label=0)], encoder_tokenizer(), kind=CLASSES, max_length=8, cache=tmp_path / "file")


def test_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(DataError, match="No space left on device"):
        encode([Example("a", "b", label=0)], encoder_tokenizer(), kind=CLASSES, max_length=8, cache=tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []


def pairs(*texts):
    return [Example(str(index), one, label=0, text_pair=other) for index, (one, other) in enumerate(texts)]


def test_two_texts_as_the_tokenizer_has_them_and_their_segments():
    tokenizer = encoder_tokenizer()
    texts = [("a cat sat", "it sat on the mat"), ("so", "what"), ("long " * 30, "short one")]
    split = encode(pairs(*texts), tokenizer, kind=CLASSES, max_length=20, cache=None, reads_segments=True)
    wanted = [tokenizer(*text, truncation="longest_first", max_length=20) for text in texts]
    assert items_of(split) == [item["input_ids"] for item in wanted]
    assert split.segments.tolist() == [segment for item in wanted for segment in item["token_type_ids"]]
    assert (split.num_cut, split.segments.dtype) == (1, np.int8)
    # A network without segments gets none.
    assert encode(pairs(*texts), tokenizer, kind=CLASSES, max_length=20, cache=None).segments is None


def test_two_texts_for_a_tokenizer_that_puts_nothing_between_them():
    tokenizer = decoder_tokenizer()
    split = encode(pairs(("the cat", "the mat")), tokenizer, kind=CLASSES, max_length=32, cache=None)
    assert tokenizer.decode(items_of(split)[0]) == "the cat\nthe mat"
    together = encode(pairs(("the ca", "t the mat")), tokenizer, kind=CLASSES, max_length=32, cache=None)
    assert items_of(together) != items_of(split)


def test_two_texts_come_back_from_the_cache(tmp_path):
    tokenizer = Counting(encoder_tokenizer())
    how = {"kind": CLASSES, "max_length": 20, "cache": tmp_path, "reads_segments": True}
    first = encode(pairs(("a", "b c"), ("d", "e")), tokenizer, **how)
    asked = tokenizer.num_texts
    again = encode(pairs(("a", "b c"), ("d", "e")), tokenizer, **how)
    assert tokenizer.num_texts == asked
    assert np.array_equal(first.segments, again.segments)
    # The same words as one text, or split elsewhere, are another file.
    encode(pairs(("a b", "c"), ("d", "e")), tokenizer, **how)
    encode([Example("0", "a", label=0)], tokenizer, **how)
    assert len(list((tmp_path / "tokens").iterdir())) == 3


TURNS = (("system", "be terse"), ("user", "the cat"))
TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
    "{% if add_generation_prompt %}<me>{% endif %}"
)


def with_template(template):
    tokenizer = copy.deepcopy(decoder_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def test_turns_are_rendered_by_the_chat_template_and_plainly_without_one(tmp_path):
    item = Example("a", "System: be terse\nUser: the cat\nAssistant:\n", response="sat", messages=TURNS)
    how = {"kind": TEXTS, "max_length": 200, "cache": tmp_path}
    tokenizer = with_template(TEMPLATE)
    split = encode([item], tokenizer, **how)
    assert tokenizer.decode(items_of(split)[0]) == "<system>be terse<user>the cat<me>sat<end>"
    assert tokenizer.decode(items_of(split)[0][: split.prompt_lengths[0]]) == "<system>be terse<user>the cat<me>"
    plain = encode([item], decoder_tokenizer(), **how)
    assert tokenizer.decode(items_of(plain)[0]) == "System: be terse\nUser: the cat\nAssistant:\nsat<end>"
    assert len(list((tmp_path / "tokens").iterdir())) == 2


def test_a_template_that_refuses_a_conversation_says_which(tmp_path):
    tokenizer = with_template("{{ raise_exception('System role not supported') }}")
    item = Example("train:7", "x", response="y", messages=TURNS)
    with pytest.raises(
        DataError,
        match=r"task.messages: the tokenizer's chat template refuses train:7 \(System role not supported\); ch",
    ):
        encode([item], tokenizer, kind=TEXTS, max_length=20, cache=None)


def test_unknown_tokens_and_texts_of_which_nothing_is_known_are_counted():
    tokenizer = encoder_tokenizer()
    texts = ["the cat", "\u13a0\u13a1 \u13a2", "the \u13a0"]
    split = encode([Example(text, text, label=0) for text in texts], tokenizer, kind=CLASSES, max_length=20, cache=None)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    unknown = sum(item.count(tokenizer.unk_token_id) for item in ids)
    assert (split.num_unknown, split.num_all_unknown) == (unknown, 1)
    share = f"{unknown / sum(map(len, ids)):.1%}"
    assert split.unknown_note("train") == (
        f"{share} of the train tokens are unknown to the tokenizer, which knows nothing of 1 of 3 texts; "
        "is it of this language?"
    )
    known = encode([Example("a", "the cat", label=0)], tokenizer, kind=CLASSES, max_length=20, cache=None)
    assert known.unknown_note("train") is None
    # Bytes leave nothing unknown.
    byte_level = encode([Example("a", texts[1], label=0)], decoder_tokenizer(), kind=CLASSES, max_length=20, cache=None)
    assert byte_level.num_unknown == 0

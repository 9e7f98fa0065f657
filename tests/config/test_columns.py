"""Oracle: names of columns of data sets on the hub, and what kind of task each is."""

from __future__ import annotations

import pytest

from lora_bench.config.columns import find_pair, is_index, recognise


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("instruction,input,output", {"prompt": "instruction", "input": "input", "response": "output"}),
        (
            "instruction,context,response,category",
            {"prompt": "instruction", "input": "context", "response": "response"},
        ),
        ("prompt,completion", {"prompt": "prompt", "response": "completion"}),
        ("question,answer", {"prompt": "question", "response": "answer"}),
        ("question,answer,passage", {"prompt": "question", "input": "passage", "response": "answer"}),
        ("id,Messages", {"messages": "Messages"}),
        ("conversations", {"messages": "conversations"}),
        # Classification: texts with a class stay one, whatever else is there.
        ("text,label", {}),
        ("text,label,messages", {}),
        ("question,sentence,label", {}),
        ("premise,hypothesis,label,answer", {}),
        ("prompt", {}),
        ("text", {}),
    ],
)
def test_kinds_by_names(names, wanted):
    assert recognise(names.split(","), {}) == wanted


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"prompt": "instruction"}, {"input": "input", "response": "output"}),
        ({"prompt": "instruction", "response": "output"}, {"input": "input"}),
        ({"prompt": "input", "response": "output"}, {}),
        ({"text": "instruction"}, {}),
        ({"messages": "input"}, {}),
        ({"response": "instruction"}, {}),
    ],
)
def test_what_the_user_names_is_kept_and_completed(given, wanted):
    assert recognise(("instruction", "input", "output"), given) == wanted


def test_indices_and_pairs():
    assert all(map(is_index, ("", "Unnamed: 0", "idx", "ID", "guid", " id ")))
    assert not any(map(is_index, ("text", "idea", "label", "unnamed")))
    assert find_pair(("label", "Sentence2", "sentence1")) == ("sentence1", "Sentence2")
    assert find_pair(("sentence1", "label")) is None

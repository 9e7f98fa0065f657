"""Oracle: the two spellings of conversations on the hub, case by case, and the rules in the docstrings."""

from __future__ import annotations

import json

import pytest

from lora_bench.tasks.conversations import ConversationError, read_conversation, render

TURNS = [
    {"role": "developer", "content": " Be terse. "},
    {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "1+1?"}]},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "2"},
]
READ = (("system", "Be terse."), ("user", "What is\n1+1?"), ("assistant", ""), ("tool", "2"))


def test_turns_before_the_last_answer_and_the_answer():
    assert read_conversation(TURNS) == (READ, "2")
    assert read_conversation(json.dumps(TURNS)) == (READ, "2")
    assert render(READ[:2]) == "System: Be terse.\nUser: What is\n1+1?\nAssistant:\n"
    spelt = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert read_conversation(spelt) == ((("user", "a"),), "b")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[" * 200_000, "a text that is no JSON list of turns"),
        ("[1", "a text that is no JSON list of turns"),
        ({"role": "user"}, "a value that is not a list of turns"),
        ([["user", "a"]], "a turn that is no object with role and content"),
        ([{"role": None, "content": "a"}], "a turn with the role 'None'; roles: system, user, assistant, tool"),
        ([{"role": "user", "content": 7}], "a turn whose content is not text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a turn whose content is not text"),
        ([{"role": "assistant", "content": "b"}], "in which no user says anything"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}], "whose last answer is empty"),
    ],
)
def test_what_is_no_conversation(value, words):
    with pytest.raises(ConversationError, match=words):
        read_conversation(value)

"""Conversations as prompt and response: the last answer of the assistant, and all that was said before it.

Both spellings of the hub are read: `role` and `content` (OpenAI), `from` and `value` (ShareGPT). Where the tokenizer
has a chat template it renders the turns (`tasks/encode.py`); `render` is what other models read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Turn = tuple[str, str]
"""Role and content."""

ASSISTANT = "assistant"
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
    "chatgpt": ASSISTANT,
    "tool": "tool",
    "function": "tool",
}
"""Names of roles, and the one that each stands for."""


class ConversationError(ValueError):
    """A value is no conversation that ends in an answer; the message says why, without the place."""


def read_conversation(value: Any) -> tuple[tuple[Turn, ...], str]:
    """Return the turns before the last answer of the assistant, and the answer.

    Args:
        value: A list of turns, or its JSON as text, as a CSV file holds it.

    Raises:
        ConversationError: If it is neither, or does not end in an answer.
    """
    turns = [_read_turn(turn) for turn in _as_list(value)]
    if not turns:
        raise ConversationError("a conversation without turns")
    role, answer = turns[-1]
    if role != ASSISTANT:
        raise ConversationError(f"a conversation that ends with '{role}', not with an answer of the assistant")
    if not answer:
        raise ConversationError("a conversation whose last answer is empty")
    if not any(role == "user" for role, _ in turns):
        raise ConversationError("a conversation in which no user says anything")
    return tuple(turns[:-1]), answer


def render(turns: Sequence[Turn]) -> str:
    """Return the turns as plain text that ends where the assistant is to answer.

    Each turn is its role with a capital, a colon and its content on a line (`User: What is 1+1?`); the last line is
    `Assistant:`.
    """
    return "".join(f"{role.capitalize()}: {content}\n" for role, content in turns) + "Assistant:\n"


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as err:
            raise ConversationError("a text that is no JSON list of turns") from err
    if not isinstance(value, list):
        raise ConversationError("a value that is not a list of turns")
    return value


def _read_turn(turn: Any) -> Turn:
    if not isinstance(turn, dict):
        raise ConversationError("a turn that is no object with role and content")
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    known = ROLES.get(str(role).strip().casefold())
    if known is None:
        raise ConversationError(f"a turn with the role {str(role)[:40]!a}; roles: system, user, assistant, tool")
    return known, _as_text(content)


def _as_text(content: Any) -> str:
    """The text of a turn; parts of type text are joined, and a turn that calls a tool says nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "\n".join(str(part["text"]) for part in content).strip()
    raise ConversationError("a turn whose content is not text (an image, or a tool's data)")

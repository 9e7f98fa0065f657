"""Texts of users and of damaged files within Markdown: shown as they are, and nothing of them acts as markup."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Belong to letters and emoji; other characters without a shape turn or hide the text around them."""
_ENTITY = re.compile(r"&(?=#?\w+;)")
_ACTIVE = re.compile(r"\](?=[(:])|[*|\\]")
"""What ends the text of a link, what stresses and what ends a cell."""


def plain(text: str) -> str:
    """Return a text as one line of Markdown that reads as it does; `code` in backticks stays."""
    line = " ".join("".join(map(_visible, text)).split())
    line = _ACTIVE.sub(lambda found: f"\\{found[0]}", _ENTITY.sub("&amp;", line))
    return line.replace("<", "&lt;")


def _visible(char: str) -> str:
    if char.isascii():
        return char if char.isprintable() else " "
    return "" if unicodedata.category(char) in ("Cf", "Cc", "Cs") and char not in _JOINERS else char

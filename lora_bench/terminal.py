"""Output to terminals and pipes whose encoding is not UTF-8: characters that they lack are replaced, never an error."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from collections.abc import Mapping

PLAIN: Mapping[str, str] = {
    "×": "x",
    "−": "-",
    "–": "-",
    "—": "-",
    "±": "+-",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "·": ".",
    "•": "*",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
"""What tables and messages use -> the same in ASCII."""
_HANDLER = "lora_bench.plain"


def make_printable() -> None:
    """Have `print` replace what the encoding of stdout and stderr lacks; every entry point calls it first.

    A finished run must not end in an error because its table has a multiplication sign.
    """
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test or a notebook may have put another one there
        if reconfigure is not None:
            reconfigure(errors=_HANDLER)


def plain(character: str) -> str:
    """Return a character in ASCII: as the table says, without its accent, or `?`."""
    if character in PLAIN:
        return PLAIN[character]
    bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return bare or "?"


def _replace(err: UnicodeError) -> tuple[str, int]:
    if not isinstance(err, UnicodeEncodeError):
        raise err
    return "".join(map(plain, err.object[err.start : err.end])), err.end

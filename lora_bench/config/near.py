"""What was meant by a key or a choice that does not exist, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from lora_bench.config.aliases import ADVICE, MODULES, as_roles, like_choice, like_keys
from lora_bench.config.values import shown
from lora_bench.errors import suggest

MOST_MEANT = 3
"""Keys that are named for one that does not exist."""


def near_key(key: str, text: str, own: Sequence[str]) -> str:
    """What was meant by a key that does not exist: a key beside it, another tool's word, or a key that ends so."""
    word = key.rsplit(".", 1)[-1].lower()
    if (advice := ADVICE.get(word)) is not None:
        return f" ({advice})"
    if word == "target_modules" and (roles := as_roles(text)) is not None:
        return f" (did you mean '{roles}'?)"
    candidates = {one.rsplit(".", 1)[-1]: one for one in own}
    typo = difflib.get_close_matches(word, candidates, n=1, cutoff=0.75)
    keys = [candidates[typo[0]]] if typo else like_keys(key)[:MOST_MEANT]
    keys = keys or [candidates[name] for name in difflib.get_close_matches(word, candidates, n=1)]
    meant = " or ".join(f"'{one}={shown(text)}'" for one in keys)
    return f" (did you mean {meant}?)" if keys else ""


def near_choice(group: str, given: str, accepted: Sequence[str]) -> str:
    plain = given.strip("'\"")
    if group == "placement" and (given.startswith("[") or plain in MODULES) and (roles := as_roles(given)):
        return f" (did you mean '{roles}'?)"
    if (named := like_choice(group, given, accepted)) is not None:
        return f" (did you mean '{named}'?)"
    if group == "model" and Path(plain).expanduser().is_dir():
        return f" (a folder is given as model.source=folder model.folder={given})"
    if group == "model" and re.fullmatch(r"\w[\w.-]*/[\w.-]+", plain):
        return f" (a repository is given as model.source=hub model.hub_id={given})"
    if group == "task" and plain.endswith((".csv", ".tsv", ".json", ".jsonl", ".parquet")):
        return f" (files are given as task=files task.train={given})"
    return suggest(plain, accepted)

"""`docker/Dockerfile` in its stages."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docker" / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
"""One a line, without comments."""


def stages() -> dict[str, tuple[str, list[str]]]:
    """Name -> (what it is made from, its own instructions)."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in INSTRUCTIONS:
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[match[2]] = (match[1], [])
        elif found and line:
            list(found.values())[-1][1].append(line)
    return found


STAGES = stages()


def instructions(target: str) -> list[str]:
    """Of a stage and of those that it stands on, in order."""
    base, own = STAGES[target]
    return (instructions(base) if base in STAGES else []) + own

"""A small root as runs and studies leave it, and every way in which one of its files may be damaged."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from support.synthetic_runs import append_lines, finished_run, start_run, synthetic_config

from lora_bench.rundir import RunDir, append_line, write_json, write_text
from lora_bench.search.studydir import StudyDir, TrialLine

STUDY = "ranks"


def make_root(root: Path) -> list[RunDir]:
    """Three runs of a study that has ended, one that diverged, and one that was interrupted."""
    settings = ({"r": 8}, {"r": 64}, {"method": "full", "lr": 3e-4})
    runs = [finished_run(root, synthetic_config(**setting, study=STUDY), num_items=40) for setting in settings]
    diverged = synthetic_config(r=2, lr=1.0)
    started = synthetic_config(r=3)
    begun = start_run(root, started, name="begun")
    append_lines(begun, first=10, last=40)
    append_line(begun.items, {"step": 10, "values": [1, 0, 1]})
    others = [finished_run(root, diverged, name="diverged", status="diverged"), begun]
    directory = StudyDir(root / "studies" / STUDY)
    write_text(directory.question, yaml.safe_dump(_question()))
    for number, run in enumerate(runs):
        point = {"lora.r": str(number)} if number < 2 else {}
        arm = "own" if number < 2 else "baseline"
        append_line(
            directory.trials,
            vars(TrialLine(arm, number % 2, point, ["model=tiny", f"lora.r={number}"], [run.path.name])),
        )
    progress = {"state": "done", "num_done": 3, "num_runs": 3, "wall_s": 60.0, "device_s": 50.0, "updated_at": 1.8e9}
    write_json(directory.progress, progress)
    write_json(directory.lock, {"pid": 1, "host": "h", "since": "2026-01-01 00:00:00", "command": "run.py"})
    other = StudyDir(root / "studies" / "other")
    write_text(other.question, yaml.safe_dump(_question()))
    return [*runs, *others]


def _question() -> dict[str, Any]:
    question = {
        "arms": {"own": {"base": [], "space": {"lora.r": "1,4"}}},
        "seeds": [0],
        "objectives": ["maximize eval/accuracy"],
        "constraints": ["memory/peak_tensor_gib <= 2"],
        "sampler": "grid",
    }
    return {"question": question, "text": "Which rank?", "command": ["lora.r=1,4"], "n_trials": 20, "id": "0" * 32}


RAW: dict[str, bytes] = {
    "empty": b"",
    "null": b"null\n",
    "list": b"[1, 2]\n",
    "number": b"7\n",
    "text": b'"x"\n',
    "object": b"{}\n",
    "object with nothing known": b'{"a": {"b": [null]}}\n',
    "brackets": b"[" * 200_000,
    "braces": b'{"a":' * 200_000,
    "dashes": b"- " * 100_000,
    "not UTF-8": b'{"status": "\xff\xfe"}\n',
    "UTF-16": '{"a": 1}\n'.encode("utf-16"),
    "zeros": b"\0" * 512,
    "half a character": b'{"status": "\\ud800", "model": {"name": "\\ud800"}}\n',
    "NaN": b'{"step": NaN, "seed": .nan}\n',
    "itself": b"&a {a: *a}\n",
    "a date": b"seed: 2020-01-01\n",
    "tabs": b"\tx:\n\t- y\n",
}
PLACES = ("folder", "loop", "nowhere", "pipe", "device", "absent")
VALUES: dict[str, Any] = {
    "none": None,
    "text": "x",
    "markup": "[/red] =cmd()|'/C calc'!A0 <script>alert(1)</script> \u001b[31m",
    "path": "../../x",
    "long": "x" * 300,
    "number": -1,
    "fraction": 0.5,
    "huge": 10**400,
    "large": 1e308,
    "truth": True,
    "list": [1, "x", None],
    "mapping": {"a": {"b": 1}},
}
"""What takes the place of each field, one by one."""

Damage = tuple[str, Callable[[Path], None]]


def damages(path: Path) -> Iterator[Damage]:
    """Every way for this file, each with its name."""
    for name, content in RAW.items():
        yield name, lambda file, content=content: _put(file, content)
    size = path.stat().st_size
    for cut in sorted({1, size // 3, size // 2, size - 2} - {0, size}):
        yield f"cut at {cut}", lambda file, cut=cut: os.truncate(file, cut)
    for place in PLACES:
        yield place, lambda file, place=place: _replace(file, place)
    yield from _field_damages(path)


def _field_damages(path: Path) -> Iterator[Damage]:
    if path.suffix in (".json", ".yaml"):
        read, write = (json.loads, _json_text) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
        for name, data in _changed(read(path.read_text())):
            yield name, lambda file, data=data: _put(file, write(data).encode())
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        for index in sorted({0, len(lines) - 1}):
            for name, data in _changed(json.loads(lines[index])):
                changed = [*lines[:index], _json_text(data), *lines[index + 1 :]]
                yield (
                    f"line {index + 1}, {name}",
                    lambda file, text=changed: _put(file, "\n".join([*text, ""]).encode()),
                )


def _changed(data: Any) -> Iterator[tuple[str, Any]]:
    """The same data with one field away, or exchanged for a value of another kind."""
    for where in list(_places(data)):
        for name, value in {"no": None, **VALUES}.items():
            changed = copy.deepcopy(data)
            holder = changed
            for key in where[:-1]:
                holder = holder[key]
            if name == "no":
                del holder[where[-1]]
            else:
                holder[where[-1]] = value
            yield f"{'.'.join(map(str, where))}: {name}", changed
    if isinstance(data, dict):
        yield "a field of a later version", {**data, "of_later": 1}


def _places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _places(value, (*above, key))


def _json_text(data: Any) -> str:
    return json.dumps(data)


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _replace(path: Path, place: str) -> None:
    path.unlink()
    if place == "folder":
        path.mkdir()
        (path / "x").write_text("x")
    elif place == "loop":
        path.symlink_to(path.name)
    elif place == "nowhere":
        path.symlink_to("nowhere")
    elif place == "pipe":
        os.mkfifo(path)
    elif place == "device":
        path.symlink_to("/dev/zero")

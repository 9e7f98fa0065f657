"""Every file of a root damaged in every way, and every command that reads it.

Oracle: no exception leaves a command; what cannot be read is named in one line on stderr with exit code 1; every other
run and study is shown as before.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from support.damage import STUDY, damages, make_root

from lora_bench import cli

ALWAYS = (["runs", "--json"], ["studies", "--json"], ["study", STUDY])
READERS = {
    "runs": (*ALWAYS, ["runs"], ["report"]),
    "studies": (*ALWAYS, ["studies"], ["study", STUDY, "--json"], ["stop", STUDY]),
}
"""Commands that read and write nothing, by the folder in which a file is damaged."""
SAMPLE = 60
"""Damages of the default suite; all of them are the slow one."""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("template")
    return root, [run.path.name for run in make_root(root)]


def every_damage(root):
    """(file relative to the root, name of the damage, what does it) for all of them."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix in (".json", ".yaml", ".jsonl"))
    files += sorted(root.rglob("studies/*/lock"))
    # Runs of one kind are damaged once: the best of LoRA, the baseline, and those that did not end well.
    kinds = ("lora-r64", "full", "begun", "diverged")
    files = [path for path in files if "studies" in path.parts or path.parts[len(root.parts) + 1].startswith(kinds)]
    for path in files:
        for name, damage in damages(path):
            yield path.relative_to(root), name, damage


def read_all(root, capsys, folder):
    """Every reader's exit code, output and error."""
    told = {}
    for words in READERS[folder]:
        code = cli.main([*words, "--root", str(root)])
        captured = capsys.readouterr()
        told[" ".join(words)] = (code, captured.out, captured.err)
    return told


def check(root, names, file, damage, capsys):
    """Damages one file, reads, and brings it back."""
    path, name = root / file, damage[0]
    backup = path.read_bytes()
    stamp = path.stat()
    try:
        damage[1](path)
        told = read_all(root, capsys, file.parts[0])
    except BaseException as err:
        raise AssertionError(f"{file} ({name}): {err!r}") from err
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(backup)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    for command, (code, _, error) in told.items():
        where = f"{file} ({name}), {command}"
        assert code in (0, 1), f"{where}: {error}"
        assert "Traceback" not in error, where
        assert bool(error) == (code == 1), f"{where}: {code} {error}"
        for line in error.splitlines():
            assert str(root) in line or "no study" in line, f"{where}: {line}"
            assert "; " in line, f"{where} names no remedy: {line}"
            assert len(line) < 900, where
    shown = json.loads(told["runs --json"][1])
    others = [other for other in names if file.parts[:2] != ("runs", other)]
    assert set(others) <= {Path(entry["path"]).name for entry in shown}, f"{file} ({name}): {told['runs --json'][2]}"
    studies = {entry["name"] for entry in json.loads(told["studies --json"][1])}
    assert {"other", STUDY} - {file.parts[1]} <= studies
    return any(code for code, _, _ in told.values())


def sweep(template, chosen, capsys):
    root, names = template
    counts = Counter()
    for file, name, damage in chosen:
        counts[file.name, check(root, names, file, (name, damage), capsys)] += 1
    return counts


def test_readers_show_the_undamaged_root(template, capsys):
    for folder in READERS:
        told = read_all(template[0], capsys, folder)
        assert {code for code, _, _ in told.values()} == {0}, told
        assert len(json.loads(told["runs --json"][1])) == 5
        assert json.loads(told["studies --json"][1])[1]["counts"] == {"finished": 3}


def test_a_sample_of_damages_is_told_and_the_rest_is_shown(template, capsys):
    everything = list(every_damage(template[0]))
    assert len(everything) > 3000
    by_file = {}
    for entry in everything:
        by_file.setdefault(entry[0], []).append(entry)
    rng = random.Random(int(os.environ.get("LORA_BENCH_DAMAGE_SEED", "0")))
    chosen = [rng.choice(entries) for entries in by_file.values()]
    chosen += rng.sample(everything, SAMPLE - len(chosen))
    assert sum(sweep(template, chosen, capsys).values()) == SAMPLE


@pytest.mark.slow
def test_every_damage_is_told_and_the_rest_is_shown(template, capsys):
    counts = sweep(template, every_damage(template[0]), capsys)
    with capsys.disabled():
        print(f"\n{sum(counts.values())} damages: {dict(sorted(counts.items()))}")
    assert sum(counts.values()) > 3000

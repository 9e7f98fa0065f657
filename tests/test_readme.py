"""Oracle: the README itself; its commands are composed, its links and files looked for."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lora_bench.config.overrides import check_overrides, understood
from lora_bench.config.store import group_choices

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
RUNS = [command for command in COMMANDS if command.startswith("python run.py")]
TOOLS = [command for command in COMMANDS if command.startswith("lora-bench")]
MAKES = re.findall(r"`?make ([a-z0-9-]+)", README)


def test_the_commands_were_found():
    assert len(RUNS) >= 6
    assert len(TOOLS) >= 4
    assert {"demo", "test", "check", "install"} <= set(MAKES)


@pytest.mark.parametrize("command", RUNS)
def test_every_run_can_be_composed(command):
    words = understood(shlex.split(command)[2:])
    overrides = [word for word in words if not word.startswith("-")]
    assert check_overrides(overrides, is_sweep="-m" in words) == []


@pytest.mark.parametrize("command", TOOLS)
def test_every_tool_knows_its_words(command):
    words = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "lora_bench.cli", words[0], "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words if word.startswith("--"))


def test_the_faults_of_the_example_are_those_that_run_py_tells():
    [block] = [block for block in BLOCKS if block.startswith("$ python run.py")]
    command, *told = block.splitlines()
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[2:]], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr.replace(str(ROOT), "/home/you/lora_bench").splitlines() == told


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(MAKES) <= targets


@pytest.mark.parametrize("group", ["model", "task", "method", "placement"])
def test_every_choice_is_named(group):
    assert [choice for choice in group_choices(group) if f"`{choice}`" not in README] == []


def test_the_map_names_what_is_there():
    house = next(block for block in BLOCKS if block.startswith("run.py "))
    for line in house.splitlines():
        name = line.strip().split()[0]
        if "/" in name or name.endswith(".py"):
            found = [*ROOT.glob(name.rstrip("/,")), *(ROOT / "lora_bench").glob(name.rstrip("/,"))]
            assert found, line


def test_links_and_paths_lead_somewhere():
    paths = set(re.findall(r"`((?:results|benchmarks|tests|lora_bench|conf|sweeps)/[\w./-]*)`", README))
    paths |= set(re.findall(r"\]\((?!http)([^)#]+)\)", README))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []

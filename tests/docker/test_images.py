"""The images, read as text, without an engine. Oracles: the pins of `requirements/`, pyproject, the files named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from support.dockerfile import INSTRUCTIONS, STAGES, TEXT, instructions

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("cpu", "cuda", "mlflow")


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_every_stage_stands_on_another_one_or_on_a_full_version():
    assert set(TARGETS) < set(STAGES)
    bases = {base for base, _ in STAGES.values()} - set(STAGES)
    assert bases == {"python:${PYTHON}"}
    (version,) = re.findall(r"^ARG PYTHON=(.*)$", TEXT, flags=re.MULTILINE)
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", version)
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == f">={version.rsplit('.', 1)[0]}"
    assert "latest" not in TEXT


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_no_builder_runs_as_a_user_and_says_how_it_is(target):
    lines = instructions(target)
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"
    assert not any("pip install" in line and "--no-deps -e ." not in line for line in lines)
    assert sum(line.startswith("HEALTHCHECK ") for line in lines) == 1
    assert [line for line in lines if line.startswith("CMD ")][-1].startswith("CMD [")
    assert f"COPY --from=build-{target} /opt/venv /opt/venv" in lines


def test_versions_are_those_of_the_constraints():
    named = dict(re.findall(r"([\w-]+)==([\w.]+)", TEXT))
    assert named == {name: pinned()[name] for name in named}
    installs = [line for line in INSTRUCTIONS if "uv pip install" in line and "-e ." not in line]
    assert len(installs) == 4
    for line in installs:
        assert "-c requirements/constraints.txt" in line or "--require-hashes -r requirements/assets.txt" in line, line


def test_extras_are_those_of_the_project_and_the_same_in_both_trainers():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [re.findall(r"--extra (\w+)", " ".join(STAGES[stage][1])) for stage in ("build-cpu", "build-cuda")]
    assert named[0] == named[1]
    assert set(named[0]) == set(extras) - {"benchmarks", "dashboard", "dev"}


def test_what_is_let_into_the_images_is_there_and_is_all_they_need():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    taken = [line[1:] for line in lines if line.startswith("!")]
    assert lines[1] == "*"
    assert [name for name in taken if not (ROOT / name).exists()] == []
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, flags=re.MULTILINE)
    assert set(copied) == {"requirements", "pyproject.toml", "."}
    assert {"conf", "sweeps", "hydra_plugins", "lora_bench", "run.py", "README.md", *copied} - {"."} == set(taken)

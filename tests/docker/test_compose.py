"""The compose files, read as YAML. Oracles: the settings of our own page, the command line's own check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from support.dockerfile import STAGES, instructions

from lora_bench.config.overrides import check_overrides
from lora_bench.tracking.dashboard import SETTINGS

FOLDER = Path(__file__).resolve().parents[2] / "docker"
FILE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = FILE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_runs_as_a_user(name):
    service = SERVICES[name]
    assert not service.get("privileged")
    if "build" in service:
        target = service["build"]["target"]
        assert service["image"] == f"lora-bench:{target}"
        assert any(line.startswith("USER 10001") for line in instructions(target))
    else:
        assert re.fullmatch(r"\w+:\d+\.\d+-\w+", service["image"])
        assert service["user"] not in ("root", "0")
        assert "healthcheck" in service


def test_only_the_page_is_published_and_on_loopback():
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "mlflow": ["127.0.0.1:5000:5000"]
    }
    assert SERVICES["postgres"]["networks"] == ["stores"]
    assert FILE["networks"]["stores"] == {"internal": True}


def test_each_service_waits_until_what_it_needs_is_well():
    assert SERVICES["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["trainer"]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    # The database that is asked for is the one that is made last.
    (made,) = re.findall(r"CREATE DATABASE (\w+);", (FOLDER / "postgres.sql").read_text())
    assert f"--dbname={made}" in SERVICES["postgres"]["healthcheck"]["test"]


def test_mlflow_runs_as_our_own_page_does():
    text = " ".join(instructions("mlflow"))
    for key in ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "MLFLOW_DISABLE_TELEMETRY"):
        assert f"{key}={SETTINGS[key]}" in text
    assert '"--workers", "1"' in text
    assert '"--artifacts-destination", "/artifacts"' in text
    assert SERVICES["mlflow"]["volumes"] == ["artifacts:/artifacts"]
    environment = SERVICES["mlflow"]["environment"]
    assert environment["MLFLOW_BACKEND_STORE_URI"].endswith("@postgres/mlflow")
    assert "mlflow:5000" in environment["MLFLOW_SERVER_ALLOWED_HOSTS"]


def test_the_trainer_carries_out_a_study_that_can_be_composed():
    command = SERVICES["trainer"]["command"]
    assert command[:3] == ["python", "run.py", "-m"]
    assert check_overrides(command[3:], is_sweep=True) == []
    assert command[-1].endswith("@postgres/optuna")
    written = {volume.split(":")[1] for volume in SERVICES["trainer"]["volumes"]}
    assert written == {"/app/outputs", "/home/bench/.cache"}


def test_every_volume_and_network_is_declared():
    for service in SERVICES.values():
        assert set(service["networks"]) <= set(FILE["networks"])
        sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert all(source in FILE["volumes"] or (FOLDER / source).exists() for source in sources)


def test_the_file_for_gpus_changes_the_trainer_alone():
    over = yaml.safe_load((FOLDER / "compose.cuda.yaml").read_text())["services"]
    assert list(over) == ["trainer"]
    assert over["trainer"]["build"]["target"] in STAGES
    (device,) = over["trainer"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]

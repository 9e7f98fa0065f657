"""Oracle: the permissions of real folders, asked as a user who is not root."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from lora_bench.config.identity import folder_digest
from lora_bench.diskpaths import reading_problem, writing_problem
from lora_bench.errors import ModelError
from lora_bench.models.folders import check_folder, is_writable

NOBODY = 65534


@pytest.fixture
def closed():
    """A folder that this process may not search, and one within it."""
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    (base / "closed" / "inner").mkdir(parents=True)
    (base / "closed").chmod(0o600 if os.geteuid() else 0o700)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    yield base / "closed"
    if is_root:
        os.seteuid(0)
    (base / "closed").chmod(0o700)
    shutil.rmtree(base)


def test_a_folder_that_cannot_be_searched_is_a_sentence(closed):
    for problem in (reading_problem(closed / "inner"), writing_problem(closed / "inner" / "root")):
        assert problem is not None
        assert "cannot be opened by this user, who lacks permission to search" in problem
        assert str(closed) in problem
    assert "lacks permission to read or search it" in str(reading_problem(closed))
    assert not is_writable(closed / "inner")


def test_a_model_in_such_a_folder_is_refused_and_has_no_digest(closed):
    with pytest.raises(ModelError, match="lacks permission"):
        check_folder(closed / "inner")
    assert folder_digest(str(closed / "inner"), cache=closed) is None


def test_folders_as_they_should_be(tmp_path):
    assert reading_problem(tmp_path) is None
    assert writing_problem(tmp_path / "to" / "be" / "made") is None


def test_a_file_and_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert reading_problem(tmp_path / "file") == f"{tmp_path}/file is not a folder"
    assert reading_problem(tmp_path / "nowhere") == f"{tmp_path}/nowhere does not exist"
    assert writing_problem(tmp_path / "file" / "deeper") == f"{tmp_path}/file is a file; give a folder"
    assert "cannot be opened (File name too long)" in str(writing_problem(tmp_path / ("x" * 300)))

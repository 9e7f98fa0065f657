"""Oracle: what is on disk after a block that ended well, and after one that did not."""

from __future__ import annotations

import json
import os

import pytest

from lora_bench.artifacts.folder import ORIGIN_FILE, check_out, written_folder
from lora_bench.errors import UsageError
from lora_bench.manifest import find_change


def test_a_folder_appears_whole_with_its_origin(trained, tmp_path):
    run = trained("bert_qv")
    out = check_out(tmp_path / "new" / "folder")
    with written_folder(out, made_by="merge", runs=[(run, 0.5)], dtype="fp32") as folder:
        (folder / "config.json").write_text("{}")
        assert not out.exists()
    origin = json.loads((out / ORIGIN_FILE).read_text())
    assert (origin["made_by"], origin["dtype"]) == ("lora-bench merge", "fp32")
    assert (origin["runs"][0]["name"], origin["runs"][0]["weight"]) == (run.name, 0.5)
    assert find_change(out) is None


def test_a_block_that_fails_leaves_nothing(trained, tmp_path):
    def write_half():
        with written_folder(tmp_path / "out", made_by="merge", runs=[]) as folder:
            (folder / "half").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written by this user"):
        check_out(tmp_path / "out")


def test_a_link_to_an_empty_folder_is_that_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert check_out(tmp_path / "link") == tmp_path / "empty"

"""Oracle: SHA-256 of what was written; every kind of change is named."""

from __future__ import annotations

import hashlib
import json

import pytest

from lora_bench.manifest import MANIFEST_FILE, find_change, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"tensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("a card")
    write_manifest(tmp_path)
    return tmp_path


def test_it_lists_tensors_and_json_alone(folder):
    listed = json.loads((folder / MANIFEST_FILE).read_text())
    assert listed["a.safetensors"] == hashlib.sha256(b"tensors").hexdigest()
    assert sorted(listed) == ["a.safetensors", "config.json"]
    assert find_change(folder) is None


def test_every_change_is_named(folder):
    (folder / "README.md").write_text("an edited card")
    assert find_change(folder) is None
    (folder / "config.json").write_text("{ }")
    assert find_change(folder) == "config.json does not match its digest"
    (folder / "config.json").unlink()
    assert find_change(folder) == "config.json is missing"
    (folder / "more.safetensors").write_bytes(b"")
    assert find_change(folder) == "more.safetensors was not there"


def test_a_list_may_lie_elsewhere(folder, tmp_path):
    listed = tmp_path / "elsewhere.txt"
    write_manifest(folder, listed)
    (folder / MANIFEST_FILE).unlink()
    assert find_change(folder, listed) is None
    with pytest.raises(FileNotFoundError):
        find_change(folder)


def test_a_damaged_list_is_no_list(folder):
    (folder / MANIFEST_FILE).write_text("[]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        find_change(folder)

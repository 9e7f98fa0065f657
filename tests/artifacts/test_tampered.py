"""Exports that somebody else has tampered with, every digest rewritten to match.

Oracle: one error that names the file, nothing in the root, nothing outside of it, and no code of the folder has run.
"""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_bench import cli
from lora_bench.artifacts.export import export_run
from lora_bench.artifacts.network import load_adapted
from lora_bench.artifacts.restore import import_run
from lora_bench.artifacts.trained import open_run
from lora_bench.errors import ArtifactError, LoraBenchError
from lora_bench.manifest import write_manifest
from lora_bench.rundir import find_adapter_config

ADAPTER = "adapter_model.safetensors"
BRACKETS = "[" * 200_000
GIB = 2**30
Exported = Callable[[], Path]


@pytest.fixture(scope="module")
def originals(run_of, tmp_path_factory):
    """One export of a plain run and one of a run that splits fused matrices; not to be written to."""
    made: dict[str, Path] = {}

    def export(name: str) -> Path:
        if name not in made:
            out = tmp_path_factory.mktemp("exports") / name
            export_run(open_run(run_of(name)), out, with_base=True)
            shutil.rmtree(out / "base")  # which no import reads
            made[name] = out
        return made[name]

    return export


@pytest.fixture
def folder(originals, tmp_path):
    """A copy to tamper with."""
    return Path(shutil.copytree(originals("bert_qv"), tmp_path / "export"))


def hide(folder: Path) -> None:
    """Rewrites every digest, as whoever tampers on purpose does."""
    with tempfile.TemporaryDirectory() as place:
        weights = Path(place)
        config = find_adapter_config(folder / "record")
        for file in (folder / ADAPTER, *([config] if config else [])):
            if file.is_file():
                shutil.copyfile(file, weights / file.name)
        write_manifest(weights, folder / "record" / "weights.json")
    write_manifest(folder)


def refused(folder: Path, tmp_path: Path) -> str:
    """What the import says; it leaves nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LoraBenchError) as caught:
        import_run(folder, tmp_path / "root")
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert [path for path in left if path.is_file()] == []
    assert left in ([], [tmp_path / "root", tmp_path / "root" / "runs"])
    said = str(caught.value)
    assert len(said) < 1200
    assert str(folder) in said
    return said


def edit_json(path: Path, **entries: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_what_is_left_alone_comes_back(folder, tmp_path):
    hide(folder)
    assert import_run(folder, tmp_path / "root").result.is_file()


@pytest.mark.parametrize(
    "name",
    ["../../x", "..", "/etc/x", "a/b", "a\\b", ".hidden", "x" * 300, "a\nb", "", "\ud800", 7, None, ["x"], {"x": 1}],
)
def test_a_name_leads_nowhere_else(folder, tmp_path, name):
    edit_json(folder / "lora_bench.json", runs=[{"name": name}])
    hide(folder)
    assert "lora_bench.json" in refused(folder, tmp_path)


@pytest.mark.parametrize("content", [BRACKETS, "", "null", "[]", '{"runs": ' + BRACKETS, "\ufeff{"])
@pytest.mark.parametrize("file", ["lora_bench.json", "manifest.json", "record/weights.json", "record/result.json"])
def test_json_without_end_is_named(folder, tmp_path, file, content):
    hide(folder)
    (folder / file).write_text(content)
    if file != "manifest.json":
        write_manifest(folder)
    assert Path(file).name in refused(folder, tmp_path)


@pytest.mark.parametrize("file", ["lora_bench.json", "manifest.json", "record/weights.json", "record/result.json"])
def test_an_object_without_entries_is_no_record(folder, tmp_path, file):
    hide(folder)
    (folder / file).write_text("{}")
    if file != "manifest.json":
        write_manifest(folder)
    refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", BRACKETS),
        ("config.yaml", "a: " * 200_000),
        ("config.yaml", "&a [*a]"),
        ("config.yaml", "!!python/object/apply:os.system ['touch ran']"),
        ("metrics.jsonl", BRACKETS + "\n"),
        ("adapter_config.json", BRACKETS),
        ("adapter_config.json", "[]"),
    ],
)
def test_a_record_that_is_none_is_named(folder, tmp_path, monkeypatch, file, content):
    monkeypatch.chdir(tmp_path)
    (folder / "record" / file).write_text(content)
    hide(folder)
    assert file in refused(folder, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: tiny", "name: ../../x"),
        ("name: tiny", "name: " + "x" * 300),
        ("name: tiny", "name: '=cmd()'"),
        ("name: tiny", "name: ${oc.env:HOME}"),
        ("seed: 1", "seed: ${oc.env:HOME}"),
        ("seed: 1", "seed: " + "9" * 30),
        ("seed: 1", "seed: 1\n_target_: os.system"),
        ("max_steps: 3", "max_steps: -3"),
        ("r: 2", "r: -2"),
    ],
)
def test_a_configuration_that_no_run_has_is_named(folder, tmp_path, old, new):
    path = folder / "record" / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    hide(folder)
    assert "config.yaml" in refused(folder, tmp_path)


class Trap:
    """Makes a file when it is read back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "pytorch_model.bin", "x.pkl"])
@pytest.mark.parametrize("is_beside", [True, False])
def test_a_pickle_is_neither_read_nor_taken_along(folder, tmp_path, name, is_beside):
    if not is_beside:
        (folder / ADAPTER).unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    hide(folder)
    said = refused(folder, tmp_path)
    assert f"{name}, and a pickle runs code when it is read" in said
    assert not (tmp_path / "ran").exists()


def test_a_pickle_under_the_name_of_safetensors(folder, tmp_path):
    (folder / ADAPTER).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    hide(folder)
    assert ADAPTER in refused(folder, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_that_is_not_there(folder, tmp_path):
    (folder / ADAPTER).unlink()
    hide(folder)
    assert ADAPTER in refused(folder, tmp_path)


@pytest.mark.parametrize("place", [".", "record"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_mapping", {"base_model_class": "X", "parent_library": "evil"}),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("megatron_config", {"x": 1}),
        ("megatron_core", "evil"),
    ],
)
def test_a_configuration_that_names_code(folder, tmp_path, place, key, value):
    edit_json(folder / place / "adapter_config.json", **{key: value})
    hide(folder)
    assert f"adapter_config.json: '{key}' names code" in refused(folder, tmp_path)


def header(length: int, **entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", length or len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        header(10 * GIB, a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
        header(2**63, a={}),
        header(0, a={"dtype": "F32", "shape": [10 * GIB // 4], "data_offsets": [0, 10 * GIB]}),
        header(0, a={"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}) + b"\0" * 4,
        header(0, a={"dtype": "F32", "shape": [-1], "data_offsets": [-4, 0]}),
        header(0, a={"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}) + b"\0" * 4,
        header(0, a=[]),
        struct.pack("<Q", 200_000) + BRACKETS.encode(),
        struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
    ],
    ids=["empty", "cut", "10GB", "2^63", "tensor", "product", "negative", "dtype", "list", "brackets", "bytes"],
)
def test_a_header_that_says_what_is_not_there(folder, tmp_path, content):
    (folder / ADAPTER).write_bytes(content)
    hide(folder)
    assert ADAPTER in refused(folder, tmp_path)


def _wider(tensors):
    key = next(key for key in tensors if "lora_A" in key)
    return {**tensors, key: torch.zeros(tensors[key].shape[0], tensors[key].shape[1] + 1)}


def _more_ranks(tensors):
    return {key: torch.cat([one, one]) if "lora_A" in key else one for key, one in tensors.items()}


def _one_missing(tensors):
    return dict(list(tensors.items())[1:])


def _one_more(tensors):
    return {**tensors, "base_model.model.bert.encoder.layer.0.attention.self.query.weight": torch.zeros(2, 2)}


def _no_tensor(tensors):
    return {}


def _whole_numbers(tensors):
    return {key: one.to(torch.int64) for key, one in tensors.items()}


@pytest.mark.parametrize("change", [_no_tensor, _whole_numbers])
def test_tensors_that_no_run_has(folder, tmp_path, change):
    save_file(change(load_file(folder / ADAPTER)), folder / ADAPTER)
    hide(folder)
    assert ADAPTER in refused(folder, tmp_path)


@pytest.mark.parametrize("change", [_wider, _more_ranks, _one_missing])
def test_tensors_that_cannot_be_divided(originals, tmp_path, change):
    folder = Path(shutil.copytree(originals("gpt2_qv"), tmp_path / "export"))
    save_file(change(load_file(folder / ADAPTER)), folder / ADAPTER)
    hide(folder)
    assert ADAPTER in refused(folder, tmp_path)


@pytest.mark.parametrize("change", [_wider, _more_ranks, _one_missing, _one_more])
def test_tensors_of_another_network_are_not_used(folder, tmp_path, change):
    """Nothing in a record tells shapes, so that they are met where a network is built."""
    save_file(change(load_file(folder / ADAPTER)), folder / ADAPTER)
    hide(folder)
    imported = open_run(import_run(folder, tmp_path / "root"))
    with pytest.raises(ArtifactError, match=f"{imported.name}: weights/ does not belong to its config.yaml"):
        load_adapted(imported)


def test_the_command_ends_in_one_line(folder, tmp_path, capsys):
    (folder / ADAPTER).write_bytes(header(10 * GIB))
    hide(folder)
    assert cli.main(["import", str(folder), "--root", str(tmp_path / "root")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("import: ")]
    assert line.startswith("ArtifactError: ")
    assert ADAPTER in line


def test_a_list_of_files_that_leads_out_of_the_folder(folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    edit_json(folder / "manifest.json", **{"../secret.json": "0" * 64})
    with pytest.raises(ArtifactError, match=r"secret\.json is missing"):
        import_run(folder, tmp_path / "root")

"""Oracle: the run's own files, byte for byte."""

from __future__ import annotations

import json

import pytest

from lora_bench.artifacts.export import export_run
from lora_bench.artifacts.restore import import_run
from lora_bench.artifacts.trained import open_run
from lora_bench.errors import ArtifactError, UsageError
from lora_bench.manifest import write_manifest
from lora_bench.rundir import find_adapter_config

FILES = ("config.yaml", "result.json", "metrics.jsonl")
ADAPTER = "weights/adapter_model.safetensors"


@pytest.fixture
def exported(trained, tmp_path):
    def make(name):
        export_run(trained(name), tmp_path / "out", with_base=True)
        return trained(name), tmp_path / "out"

    return make


@pytest.mark.parametrize("name", ["bert_all", "gpt2_qv", "llama_qv"])
def test_a_run_comes_back_byte_for_byte(exported, tmp_path, name):
    run, folder = exported(name)
    back = import_run(folder, tmp_path / "root")
    assert back.path == tmp_path / "root" / "runs" / run.name
    config = find_adapter_config(run.weights)
    for file in (*FILES, ADAPTER, f"weights/{config.name}"):
        assert (back.path / file).read_bytes() == (run.run.path / file).read_bytes(), file
    assert open_run(back).result == run.result


def test_a_run_that_is_there_is_not_overwritten(exported, root):
    _, folder = exported("bert_qv")
    with pytest.raises(UsageError, match="is recorded already and is never overwritten; choose another --root"):
        import_run(folder, root)


def test_an_adapter_from_elsewhere_is_no_run(exported, tmp_path):
    _, folder = exported("bert_qv")
    with pytest.raises(UsageError, match="base: is no adapter folder"):
        import_run(folder / "base", tmp_path / "root")
    (folder / "lora_bench.json").unlink()
    with pytest.raises(
        UsageError, match=r"was not written by lora-bench export, .* PeftModel.from_pretrained reads it"
    ):
        import_run(folder, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_an_export_that_was_changed_is_refused(exported, tmp_path):
    _, folder = exported("gpt2_qv")
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ArtifactError, match=r"adapter_model.safetensors does not match its digest: not what was exported"
    ):
        import_run(folder, tmp_path / "root")
    write_manifest(folder)  # somebody who hides the change
    with pytest.raises(ArtifactError, match="the weights do not come back as the run wrote them"):
        import_run(folder, tmp_path / "root")
    assert list((tmp_path / "root" / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["../outside", None])
def test_a_damaged_origin_is_refused(exported, tmp_path, name):
    _, folder = exported("bert_qv")
    origin = json.loads((folder / "lora_bench.json").read_text())
    origin["runs"] = [{"name": name}] if name else []
    (folder / "lora_bench.json").write_text(json.dumps(origin))
    write_manifest(folder)
    with pytest.raises(ArtifactError, match=r"names a run outside the root|is damaged"):
        import_run(folder, tmp_path / "root")
    assert not (tmp_path / "root").exists()

"""Oracle: a run that was damaged in one way; what it is refused with, without torch and before anything is loaded."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import pytest
from support.run_edits import edit_config, edit_result

from lora_bench.artifacts.trained import check_adapter, check_same_base, open_run, refuse_quantised
from lora_bench.errors import ArtifactError, RunDirError
from lora_bench.manifest import MANIFEST_FILE, write_manifest
from lora_bench.models import folders

ADAPTER = "adapter_model.safetensors"


def test_a_whole_run_has_its_classes_and_its_base(trained):
    bert, llama = trained("bert_qv"), trained("llama_qv")
    assert (bert.num_labels, bert.labels) == (3, ["negative", "neutral", "positive"])
    assert (llama.num_labels, llama.labels) == (None, None)
    assert (bert.peft_type, trained("bert_full").peft_type) == ("LORA", None)
    assert bert.base_digest.startswith("random:")
    check_same_base([bert, trained("bert_all"), trained("bert_full")])


def test_classes_are_not_named_after_data_that_have_changed(copy_of):
    run = copy_of("bert_qv")
    edit_config(run, lambda config: config["task"].update(num_eval=5))
    found = open_run(run)
    assert (found.num_labels, found.labels) == (3, None)


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "unfinished": (lambda run: run.result.unlink(), "is interrupted and has no result yet; the same run.py command"),
    "diverged": (
        lambda run: edit_result(run, status="diverged", error="loss is NaN"),
        r"ended as diverged \(loss is NaN\); only finished and pruned runs are used",
    ),
    "no weights": (lambda run: run.weights.rename(run.path / "away"), r"has no folder weights/; train it again"),
    "no adapter": (
        lambda run: (run.weights / ADAPTER).unlink(),
        r"weights/ holds no adapter and no model \(no .safetensors\)",
    ),
    "pickle": (
        lambda run: (run.weights / "adapter_model.bin").write_bytes(b"\x80"),
        "weights/ holds adapter_model.bin, and a pickle runs code when it is read",
    ),
    "truncated": (lambda run: cut(run.weights / ADAPTER), r"has \d+ bytes, its header says \d+; train it again"),
    "no safetensors": (lambda run: (run.weights / ADAPTER).write_bytes(b"abc"), "no safetensors file"),
    "tampered": (
        lambda run: flip(run.weights / ADAPTER),
        "weights/adapter_model.safetensors does not match its digest: not what the run wrote; train it again",
    ),
    "other settings": (
        lambda run: (run.weights / "adapter_config.json").write_text("{}"),
        "weights/adapter_config.json does not match its digest",
    ),
    "damaged list": (
        lambda run: (run.weights / MANIFEST_FILE).write_text("["),
        r"weights/manifest.json cannot be read",
    ),
    "other base": (
        lambda run: edit_config(run, lambda config: config["model"]["architecture"].update(num_hidden_layers=3)),
        r"was trained on weights random:\w{12}, and model=tiny \(random\) now has random:\w{12}; bring those",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_refused(copy_of, damage):
    run = copy_of("bert_qv")
    harm, message = DAMAGES[damage]
    harm(run)
    with pytest.raises(ArtifactError, match=message) as raised:
        open_run(run)
    assert run.path.name in str(raised.value)


def test_an_adapter_with_more_beside_it_is_no_adapter_alone(copy_of):
    run = copy_of("bert_qv")
    check_adapter(open_run(run))
    shutil.copyfile(run.weights / ADAPTER, run.weights / "start.safetensors")
    write_manifest(run.weights)
    with pytest.raises(
        ArtifactError, match="what method=lora trained is no PEFT adapter, or not that alone; lora-bench"
    ):
        check_adapter(open_run(run))


def test_a_folder_without_configuration_is_told(copy_of):
    run = copy_of("bert_qv")
    run.config.write_text("- 1")
    with pytest.raises(RunDirError, match=re.escape("config.yaml: holds no mapping of keys to values")):
        open_run(run)


def test_a_run_of_an_older_version_has_no_list_and_is_used(copy_of):
    run = copy_of("bert_qv")
    (run.weights / MANIFEST_FILE).unlink()
    assert open_run(run).num_labels == 3


def test_runs_of_different_bases_are_told_apart(trained, copy_of):
    one = trained("bert_qv")
    with pytest.raises(
        ArtifactError, match=r"stand on different bases \(tiny random:\w{12}, tiny-gpt2 random:\w{12}\)"
    ):
        check_same_base([one, trained("gpt2_qv")])
    run = copy_of("bert_all")
    edit_config(run, lambda config: config["training"].update(dtype="bf16"))
    with pytest.raises(ArtifactError, match=r"stand on one base in two dtypes \(fp32, bf16\), rounded apart"):
        check_same_base([one, open_run(run)])
    other = dataclasses.replace(one, num_labels=5)
    with pytest.raises(ArtifactError, match=r"have different heads \(3 classes, 5 classes\); use runs of one task"):
        check_same_base([one, other])


def test_a_quantised_base_is_refused_with_what_to_do(trained, monkeypatch, tmp_path):
    found = trained("bert_qv")
    refuse_quantised(found)
    config = {"model_type": "bert", "quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("lora_bench.artifacts.trained.read_architecture", lambda _: folders.read_config(tmp_path))
    found.config.model.source = type(found.config.model.source).folder
    with pytest.raises(ArtifactError, match=r"its base is quantised; .* rounded .* again, .* keep the adapter beside"):
        refuse_quantised(found)

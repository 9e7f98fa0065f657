"""Oracle: bits; what is loaded equals what was saved, and a flipped byte is noticed."""

from __future__ import annotations

import json

import pytest
import torch

from lora_bench.errors import CheckpointError
from lora_bench.manifest import write_manifest
from lora_bench.training.checkpoint import TrainingState, load_newest, save_checkpoint


def save(folder, step, *, digest="digest"):
    tensors = {"trained.a": torch.full((4,), float(step)), "generator.cpu": torch.get_rng_state()}
    return save_checkpoint(folder, TrainingState(step, tensors, {"steps": step}), config_digest=digest)


def test_newest_comes_back_bit_for_bit_and_two_are_kept(tmp_path):
    for step in (2, 4, 6):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000006"]
    state, notes = load_newest(tmp_path, config_digest="digest")
    assert notes == []
    assert state is not None
    assert (state.step, state.scalars) == (6, {"steps": 6})
    assert torch.equal(state.tensors["trained.a"], torch.full((4,), 6.0))


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path, name, damage):
    save(tmp_path, 2)
    file = save(tmp_path, 4) / name
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    state, notes = load_newest(tmp_path, config_digest="digest")
    assert state is not None
    assert state.step == 2
    assert "step-00000004 cannot be read" in notes[0]
    assert "was passed over" in notes[0]


def test_a_checkpoint_of_another_version_is_passed_over_and_said(tmp_path):
    path = save(tmp_path, 4)
    state = json.loads((path / "state.json").read_text())
    del state["layout"]  # as it was before layouts had numbers
    (path / "state.json").write_text(json.dumps(state))
    write_manifest(path)
    found, notes = load_newest(tmp_path, config_digest="digest")
    assert found is None
    assert "another version of lora_bench, in layout 1 instead of 2" in notes[0]


def test_a_half_written_checkpoint_is_not_one(tmp_path):
    (tmp_path / "step-00000009.partial-77").mkdir(parents=True)
    assert load_newest(tmp_path, config_digest="digest") == (None, [])


def test_another_configuration_is_refused(tmp_path):
    save(tmp_path, 2, digest="other-configuration")
    with pytest.raises(CheckpointError, match="belongs to configuration other-config"):
        load_newest(tmp_path, config_digest="digest")


def test_a_checkpoint_of_other_data_is_refused_and_one_of_before_is_taken(tmp_path):
    tensors = {"generator.cpu": torch.get_rng_state()}
    save_checkpoint(tmp_path, TrainingState(2, tensors), config_digest="digest", data_digest="d" * 64)
    assert load_newest(tmp_path, config_digest="digest", data_digest="d" * 64)[0] is not None
    with pytest.raises(
        CheckpointError, match=r"trained on data dddddddddddd, and the task now gives eeeeeeeeeeee: other"
    ):
        load_newest(tmp_path, config_digest="digest", data_digest="e" * 64)
    # Of a version that did not write it down.
    save_checkpoint(tmp_path, TrainingState(4, tensors), config_digest="digest")
    assert load_newest(tmp_path, config_digest="digest", data_digest="e" * 64)[0].step == 4

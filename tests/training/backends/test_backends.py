"""Every backend on two processes against one. Oracle: the same run by `SingleBackend`, in fp32, without dropout.

Sums are taken in another order, and Adam amplifies that; so losses agree to 1e-5 and weights to 1e-4.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.groups import BACKENDS

from lora_bench.rundir import RunDir, find_run_dirs, read_lines

ROOT = Path(__file__).resolve().parents[3]
COMMON = [
    "training.max_steps=5",
    "training.log_every=1",
    "training.dropout=0",
    "training.dtype=fp32",
    "training.batch_size=8",
    "training.eval_every=3",
    "task.num_validation=30",
    "task.num_eval=30",
]
CASES = {
    "lora": ["model=tiny", "method=lora"],
    # Several micro-batches, each with sums of its own or put off to the last.
    "full": ["model=tiny", "method=full", "training.micro_batch_size=2", "training.activation_checkpointing=true"],
    # Answers of different lengths: a mean over each process's own tokens would be another loss.
    "answers": ["model=tiny-gpt2", "method=lora", "task=arithmetic", "task.num_train=200", "task.max_new_tokens=4"],
    # Which experts compute for whom differs between the processes.
    "experts": [
        "model=tiny-moe",
        "method=lora",
        "placement=all",
        "task=arithmetic",
        "task.num_train=200",
        "task.max_new_tokens=4",
    ],
}
"""Name -> words."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[tuple[str, str], RunDir]:
    """Case and backend -> its run; each trained in its own root."""
    folder = tmp_path_factory.mktemp("backends")
    wanted = {(case, backend): folder / f"{case}-{backend}" for case in CASES for backend in ("single", *BACKENDS)}
    words = [
        [*COMMON, *CASES[case], f"processes={backend}", f"paths.root={root}"]
        for (case, backend), root in wanted.items()
    ]
    (folder / "runs.json").write_text(json.dumps(words), encoding="utf-8")
    command = [sys.executable, str(ROOT / "tests/support/groups.py"), str(folder / "runs.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=500)
    assert done.stdout.count("exit code 0") == len(words), done.stdout + done.stderr
    return {key: find_run_dirs(root)[0] for key, root in wanted.items()}


@pytest.fixture(params=[(case, backend) for case in CASES for backend in BACKENDS], ids="-".join)
def pair(request, trained) -> tuple[RunDir, RunDir]:
    """One process's run, and the same by several."""
    case, backend = request.param
    return trained[case, "single"], trained[case, backend]


def test_losses_norms_and_scores_are_those_of_one_process(pair):
    alone, group = (_metrics(run) for run in pair)
    assert set(alone) == set(group)
    compared = {key: value for key, value in alone.items() if key[1].split("/")[0] in ("train", "eval")}
    assert len(compared) >= 5 * 3
    assert {key: group[key] for key in compared} == pytest.approx(compared, abs=1e-5)


def test_weights_are_those_of_one_process_and_whole(pair):
    alone, group = ({file.name: load_file(file) for file in run.weights.glob("*.safetensors")} for run in pair)
    assert set(alone) == set(group)
    for file, tensors in alone.items():
        assert {name: tensor.shape for name, tensor in group[file].items()} == {
            name: tensor.shape for name, tensor in tensors.items()
        }
        for name, tensor in tensors.items():
            torch.testing.assert_close(group[file][name], tensor, atol=1e-4, rtol=0)


def test_predictions_come_from_both_processes_in_the_order_of_one(pair):
    alone, group = (
        [json.loads(line) for line in run.predictions.read_text(encoding="utf-8").splitlines()] for run in pair
    )
    assert [item["item_id"] for item in group] == [item["item_id"] for item in alone]
    assert [item["nll"] for item in group] == pytest.approx([item["nll"] for item in alone], abs=1e-4)
    answers = [[item.get("generated", item.get("prediction")) for item in items] for items in (alone, group)]
    assert answers[0] == answers[1]


def test_what_was_asked_for_is_what_ran(pair):
    alone, group = (run.read_result() for run in pair)
    use = group.processes
    assert alone.processes is None
    assert (use.count, use.nodes, use.transport, len(use.memory), len(use.train_s)) == (2, 1, "gloo", 2, 2)
    assert group.run_name != alone.run_name
    # Padding is that of all processes; the tokens of all beside the padded ones of one would come out below 0.
    assert 0 <= group.timing.padding_fraction < alone.timing.padding_fraction + 0.05
    assert group.sizes.trainable_parameters == alone.sizes.trainable_parameters
    assert group.sizes.total_parameters == alone.sizes.total_parameters


def test_what_a_backend_splits_a_process_has_half_of(pair):
    alone, group = (run.read_result() for run in pair)
    splits_weights = group.processes.name in ("fsdp", "zero3", "zero3_offload")
    parts = [memory.weight_bytes / alone.memory.weight_bytes for memory in group.processes.memory]
    # Norms and biases stay whole in ZeRO-3.
    assert all((0.45 < part < 0.6) if splits_weights else (part == pytest.approx(1, abs=0.01)) for part in parts)
    assert group.processes.memory_sum.weight_bytes == sum(own.weight_bytes for own in group.processes.memory)
    assert group.memory.peak_tensor_bytes == max(own.peak_tensor_bytes for own in group.processes.memory)


def _metrics(run: RunDir) -> dict[tuple[int, str], float]:
    return {(line["step"], name): value for line in read_lines(run.metrics) for name, value in line["metrics"].items()}

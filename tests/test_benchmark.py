"""One run, whole. Oracles: bits of an uninterrupted run, files on disk, and sizes counted another way."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from lora_bench import rundir
from lora_bench.benchmark import run_benchmark
from lora_bench.config.resolve import to_yaml
from lora_bench.errors import CheckpointError, RunInterrupted
from lora_bench.evaluation import Evaluation
from lora_bench.naming import run_dir_for
from lora_bench.preflight import root_folder
from lora_bench.records import Score
from lora_bench.report import render_comparison
from lora_bench.rundir import RunDir
from lora_bench.training.loop import Loop
from lora_bench.training.observer import NullObserver


def run(config, **options):
    run_dir = run_dir_for(config, root_folder(config))
    return run_benchmark(config, run_dir, **options), run_dir


def weights(run_dir):
    (file,) = run_dir.weights.glob("*.safetensors")
    return load_file(file)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("words", [["method=lora"], ["method=full"], ["method=lora", "training.dtype=fp32"]])
def test_a_run_records_everything(tiny, words):
    config = tiny(*words)
    result, run_dir = run(config)
    assert result.status == "finished"
    assert run_dir.read_result() == result
    assert {score.name for score in result.scores} == {"accuracy", "macro_f1", "nll"}
    assert [json.loads(line)["item_id"] for line in run_dir.predictions.read_text().splitlines()]
    assert len(run_dir.predictions.read_text().splitlines()) == 32
    lines = rundir.read_lines(run_dir.metrics)
    assert [line["step"] for line in lines if "train/loss" in line["metrics"]] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "eval/accuracy" in line["metrics"]] == [3, 6]
    assert result.sizes is not None
    saved = weights(run_dir)
    assert sum(value.numel() for value in saved.values()) == (
        result.sizes.trainable_parameters if config.lora else result.sizes.total_parameters
    )
    assert result.sizes.weights_bytes == sum(file.stat().st_size for file in run_dir.weights.glob("*.safetensors"))
    assert result.sizes.resume_bytes > 8 * result.sizes.trainable_parameters
    assert not run_dir.checkpoints.exists()
    assert result.memory is not None
    bytes_per_weight = 4 if config.training.dtype.value == "fp32" else 2
    assert result.memory.weight_bytes >= bytes_per_weight * (
        result.sizes.total_parameters - result.sizes.trainable_parameters
    )
    assert result.memory.optimizer_bytes >= 8 * result.sizes.trainable_parameters
    assert result.memory.peak_tensor_bytes >= result.memory.weight_bytes + result.memory.optimizer_bytes
    assert result.timing is not None
    assert result.timing.num_timed_steps > 0
    assert 0 < result.timing.data_s < result.timing.load_s


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny, tmp_path):
    first = weights(run(tiny())[1])
    second = weights(run(tiny(f"paths.root={tmp_path}/other"))[1])
    third = weights(run(tiny("seed=1"))[1])
    assert same(first, second)
    assert not same(first, third)


def test_a_recorded_run_is_returned_and_not_trained_again(tiny):
    config = tiny()
    first, run_dir = run(config)
    before = run_dir.metrics.read_bytes(), run_dir.result.read_bytes()
    assert run(config)[0] == first
    assert (run_dir.metrics.read_bytes(), run_dir.result.read_bytes()) == before


def test_again_trains_beside_the_record(tiny):
    first, run_dir = run(tiny())
    again = tiny("again=2")
    second, other_dir = run(again)
    assert other_dir.path.name == f"{run_dir.path.name}.2"
    assert second.config_digest == first.config_digest
    assert same(weights(run_dir), weights(other_dir))


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from lora_bench.benchmark import run_benchmark
from lora_bench.config.resolve import from_yaml
from lora_bench.rundir import RunDir
directory = RunDir(Path(sys.argv[1]))
run_benchmark(from_yaml(directory.config), directory)
"""


@pytest.mark.parametrize("method", ["lora", "full"])
def test_sigkill_at_random_moments_ends_with_the_same_bits(tiny, tmp_path, method):
    words = [f"method={method}", "training.max_steps=40", "training.checkpoint_every=3", "training.eval_every=20"]
    straight = run(tiny(*words, f"paths.root={tmp_path}/straight"))[1]
    config = tiny(*words)
    run_dir = run_dir_for(config, root_folder(config))
    rundir.write_text(run_dir.config, to_yaml(config))
    moments = random.Random(method)
    num_kills = 0
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(run_dir.path)], stderr=subprocess.PIPE)
        if num_kills < 3 and _wait_for_steps(run_dir, child, 5 + num_kills * 8):
            time.sleep(moments.random() * 0.2)
            child.kill()
        _, err = child.communicate()
        if child.returncode == -signal.SIGKILL:
            num_kills += 1
            continue
        assert child.returncode == 0, err.decode()
        break
    assert num_kills >= 1
    assert same(weights(straight), weights(run_dir))
    left, right = (
        [
            (line["step"], line["metrics"]["train/loss"])
            for line in rundir.read_lines(d.metrics)
            if "train/loss" in line["metrics"]
        ]
        for d in (straight, run_dir)
    )
    assert left == right
    assert run_dir.predictions.read_bytes() == straight.predictions.read_bytes()


def _wait_for_steps(run_dir, child, num_steps):
    """Until this attempt has logged so many steps; False if it ended before."""
    while child.poll() is None:
        lines = rundir.read_lines(run_dir.metrics)
        if lines and lines[-1]["step"] >= num_steps and run_dir.read_status().get("pid") == child.pid:
            return True
        time.sleep(0.01)
    return False


class StopAt(NullObserver):
    """Asks the loop to stop from outside, or prunes, at a step."""

    def __init__(self, step, *, prunes=False):
        self.step, self.prunes, self.seen = step, prunes, 0

    def on_log(self, step, metrics):
        self.seen = step

    def on_eval(self, step, metrics):
        return self.prunes and step >= self.step


def test_a_stop_request_checkpoints_and_the_same_call_goes_on(tiny, tmp_path):
    config, observer = tiny("training.checkpoint_every=0"), StopAt(4)
    straight = run(tiny("training.checkpoint_every=0", f"paths.root={tmp_path}/straight"))[1]
    with pytest.raises(RunInterrupted, match="after step 4; the same command goes on"):
        run(config, observer=observer, stop_requested=lambda: observer.seen >= 4)
    result, run_dir = run(config)
    assert result.status == "finished"
    assert same(weights(straight), weights(run_dir))


def test_a_pruned_run_keeps_its_record(tiny):
    result, run_dir = run(tiny(), observer=StopAt(3, prunes=True))
    assert (result.status, result.steps) == ("pruned", 3)
    # It has a validation score, by which it was pruned; no test item was looked at.
    assert result.choosing_score("accuracy") is not None
    assert run_dir.validation_predictions.exists()
    assert result.scores == []
    assert not run_dir.predictions.exists()


def test_a_damaged_checkpoint_is_passed_over_and_the_result_says_so(tiny, tmp_path):
    straight = run(tiny(f"paths.root={tmp_path}/straight"))[1]
    config, observer = tiny(), StopAt(5)
    with pytest.raises(RunInterrupted):
        run(config, observer=observer, stop_requested=lambda: observer.seen >= 5)
    run_dir = run_dir_for(config, root_folder(config))
    newest = sorted(run_dir.checkpoints.iterdir())[-1]
    file = newest / "state.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    result, _ = run(config)
    assert any("cannot be read" in note for note in result.notes)
    assert same(weights(straight), weights(run_dir))


def test_a_resume_on_other_data_is_refused(tiny, tmp_path):
    rows = [f"text {number},{('neg', 'pos')[number % 2]}" for number in range(160)]
    file = tmp_path / "data.csv"
    file.write_text("\n".join(["text,label", *rows]))
    config, observer = tiny("task=files", f"task.train={file}", f"task.eval={file}"), StopAt(4)
    # As a record of an earlier version: the file is then found to have changed by the items themselves.
    config.task.content_digest = None
    with pytest.raises(RunInterrupted):
        run(config, observer=observer, stop_requested=lambda: observer.seen >= 4)
    file.write_text("\n".join(["text,label", *(f"another {row}" for row in rows)]))
    with pytest.raises(CheckpointError, match=r"was trained on data .*, and the task now gives .*: other texts"):
        run(config)


def test_a_loss_that_is_not_finite_ends_as_diverged(tiny):
    # Nothing is clipped and the rate is absurd: the head's weights overflow within a few steps.
    result, run_dir = run(
        tiny(
            "method=full",
            "training.lr=1e30",
            "training.max_grad_norm=null",
            "training.warmup_ratio=0",
            "training.dtype=fp32",
        )
    )
    assert result.status == "diverged"
    assert result.steps < 6
    assert run_dir.read_result() is not None
    assert rundir.read_lines(run_dir.metrics)[-1]["metrics"]["train/loss"] is None


def test_out_of_memory_is_a_result_with_a_micro_batch_that_fits(tiny, monkeypatch):
    real = Loop._step

    def step(self, index, micro_batches, watch=None):
        if index == 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return real(self, index, micro_batches, watch)

    monkeypatch.setattr(Loop, "_step", step)
    result, _ = run(tiny())
    assert (result.status, result.steps) == ("oom", 2)
    assert result.details["largest_micro_batch"] == 4
    assert "training.micro_batch_size=4 fits" in (result.error or "")


def test_gradient_accumulation_takes_the_same_steps(tiny, tmp_path):
    # Same sums in another order: equal up to rounding, which Adam amplifies a little.
    whole = weights(run(tiny("training.dtype=fp32", "training.dropout=0"))[1])
    parts = weights(run(tiny("training.dtype=fp32", "training.dropout=0", "training.micro_batch_size=2"))[1])
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.allclose(whole[name], parts[name], atol=2e-4), name


@pytest.mark.parametrize("method", ["lora", "full"])
def test_activations_that_are_computed_again_change_no_number_and_take_less_memory(tiny, method):
    words = (f"method={method}", "training.dtype=fp32", "training.dropout=0.1")
    (kept, kept_dir), (again, again_dir) = (
        run(tiny(*words, f"training.activation_checkpointing={on}")) for on in ("false", "true")
    )
    first, second = weights(kept_dir), weights(again_dir)
    assert all(first[name].equal(tensor) for name, tensor in second.items())
    assert again.memory.activation_bytes < 0.5 * kept.memory.activation_bytes


def test_a_fault_of_the_program_is_recorded_as_failed_and_tried_again(tiny, monkeypatch):
    config = tiny()
    monkeypatch.setattr(Loop, "run", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(config)
    run_dir = run_dir_for(config, root_folder(config))
    recorded = run_dir.read_result()
    assert recorded is not None
    assert recorded.status == "failed"
    assert "ZeroDivisionError" in (recorded.error or "")
    monkeypatch.undo()
    assert run(config)[0].status == "finished"
    assert (run_dir.path / "failures" / "1.json").exists()


def test_a_real_allocation_failure_is_told_as_oom(tiny, tmp_path):
    """A child whose address space is capped meets torch's own error, not one that a test made."""
    config = tiny(
        "method=full",
        "training.batch_size=512",
        "task.num_train=512",
        "task.max_length=64",
        "model.architecture.num_hidden_layers=24",
        "model.architecture.intermediate_size=4096",
    )
    run_dir = run_dir_for(config, root_folder(config))
    rundir.write_text(run_dir.config, to_yaml(config))
    code = (
        "import resource, torch\n"
        "import lora_bench.benchmark, lora_bench.execution.warm\n"
        "used = int(open('/proc/self/statm').read().split()[5]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (used + 900 * 2**20, -1))\n" + CHILD
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run_dir.path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = RunDir(Path(run_dir.path)).read_result()
    assert result is not None
    assert result.status == "oom"
    assert result.details["largest_micro_batch"] in (1, 2, 4, 8, 16, 32, 64, 128, 256), result.error


def test_an_evaluation_that_is_not_finite_ends_as_diverged_and_can_be_shown(tiny, monkeypatch):
    monkeypatch.setattr("lora_bench.benchmark.evaluate", lambda *args, **kwargs: _nan_evaluation())
    result, run_dir = run(tiny())
    assert result.status == "diverged"
    assert "an evaluation after step 3" in (result.error or "")
    render_comparison([run_dir], console=Console(file=io.StringIO()))


def _nan_evaluation():
    return Evaluation([Score("nll", float("nan"), None, None, 32, False)], "nll", [], loss=float("nan"))


def test_one_evaluation_item_has_an_interval_without_end_and_can_be_shown(tiny):
    result, run_dir = run(tiny("task.num_validation=1", "task.num_eval=1"))
    assert result.score("nll").ci_high is None
    assert run_dir.read_result() == result
    render_comparison([run_dir], console=Console(file=io.StringIO()))


def test_a_run_killed_between_divergence_and_its_record_stays_diverged(tiny, monkeypatch):
    words = ["method=full", "training.lr=1e30", "training.max_grad_norm=null", "training.warmup_ratio=0"]
    config = tiny(*words, "training.dtype=fp32")
    with monkeypatch.context() as patched:
        patched.setattr(RunDir, "write_result", lambda self, result: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(config)
    result, _ = run(config)
    assert result.status == "diverged"
    assert "a lower training.lr" in (result.error or "")


def test_running_out_of_memory_without_a_word_is_recorded(tiny, monkeypatch):
    monkeypatch.setattr("lora_bench.prepared.load_model", lambda *args, **kwargs: (_ for _ in ()).throw(MemoryError()))
    result, _ = run(tiny())
    assert result.status == "oom"
    assert "MemoryError" in (result.error or "")
    assert "while loading" in (result.error or "")


def test_running_out_of_memory_in_an_evaluation_says_which_batch(tiny, monkeypatch):
    monkeypatch.setattr("lora_bench.benchmark.evaluate", lambda *args, **kwargs: (_ for _ in ()).throw(MemoryError()))
    result, _ = run(tiny())
    assert result.status == "oom"
    assert "lower training.eval_batch_size=64" in (result.error or "")
    assert result.sizes is not None
    assert result.timing is not None


def test_the_total_of_lora_is_base_and_adapter(tiny):
    lora, full = (run(tiny(f"method={method}"))[0].sizes for method in ("lora", "full"))
    assert lora.total_parameters == full.total_parameters + lora.adapter_parameters
    assert lora.head_parameters == full.head_parameters


def test_another_cache_is_taken_up_when_a_run_goes_on(tiny, tmp_path):
    observer = StopAt(2)
    with pytest.raises(RunInterrupted):
        run(tiny(), observer=observer, stop_requested=lambda: observer.seen >= 2)
    _, run_dir = run(tiny(f"paths.cache={tmp_path}/another"))
    assert f"{tmp_path}/another" in run_dir.config.read_text()

"""Every registered method as a whole run that is interrupted and goes on. Oracle: the bits of an uninterrupted one."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from support.method_cases import SMALL

from lora_bench.benchmark import run_benchmark
from lora_bench.errors import RunInterrupted
from lora_bench.methods import METHODS
from lora_bench.naming import run_dir_for
from lora_bench.preflight import check_run, root_folder
from lora_bench.training.observer import NullObserver


class Watching(NullObserver):
    """Remembers the step that was told last."""

    seen = 0

    def on_log(self, step, metrics):
        self.seen = step


def weights(run_dir):
    return {
        f"{path.name}:{name}": value
        for path in sorted(run_dir.weights.rglob("*.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A task that takes no time to read."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [f'"{("a good" if index % 2 else "a bad")} day number {index}",{index % 2}' for index in range(80)]
    for name, part in (("train", lines[:64]), ("eval", lines[64:])):
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *part]), encoding="utf-8")
    return [
        "task=files",
        f"task.train={folder}/train.csv",
        f"task.eval={folder}/eval.csv",
        "task.num_validation=16",
        "task.num_eval=16",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_with_the_same_bits(method, tiny, texts, tmp_path):
    config = tiny(
        *texts, "task.num_train=48", f"method={method}", "training.checkpoint_every=0", *SMALL.get(method, ())
    )
    straight = copy.deepcopy(config)
    straight.paths.root = str(tmp_path / "straight")
    check_run(config)
    straight_dir = run_dir_for(straight, root_folder(straight))
    expected = run_benchmark(straight, straight_dir)
    run_dir, observer = run_dir_for(config, root_folder(config)), Watching()
    with pytest.raises(RunInterrupted, match="after step 4"):
        run_benchmark(config, run_dir, observer=observer, stop_requested=lambda: observer.seen >= 4)
    result = run_benchmark(config, run_dir)
    assert (result.status, result.final_train_loss) == ("finished", expected.final_train_loss)
    left, right = weights(straight_dir), weights(run_dir)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    assert result.sizes is not None
    assert 0 < result.sizes.adapter_parameters + result.sizes.head_parameters == result.sizes.trainable_parameters
    assert result.sizes.weights_bytes == sum(path.stat().st_size for path in run_dir.weights.rglob("*.safetensors"))

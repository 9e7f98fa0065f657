"""Checks the words of the command line against the configuration tree, before Hydra composes anything.

Hydra stops at the first unknown key and its message does not know the nearest name. Here every override is
looked at: its key, its group choices and each value of a sweep, and all faults come back together.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_bench.config.dirs import with_config_dirs
from lora_bench.config.hydra_words import SEARCHPATH, hydra_fault
from lora_bench.config.near import near_choice, near_key
from lora_bench.config.store import CONF_DIR, SCHEMAS, group_choices, group_names, register_schemas, study_files
from lora_bench.config.values import digits_problem, shown, value_problem
from lora_bench.errors import ConfigError, Fault, suggest

LISTS = ("placement.roles",)
"""Keys whose value may be a list of words; without brackets it would be a sweep."""
NAMED_BY_CHOICE = ("executor", "method", "placement", "processes", "task", "tracking")
"""Groups whose `name` says which choice was made."""
MOST_VALUES = 10_000
"""Values of one sweep; more are a slip of the finger, and would be listed one by one."""
_ODD = re.compile(r"[^\w.@/+~:-]|[^\x00-\x7f]")
_REFUSALS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
"""What composing ends in; ValueError where a file holds a number of more digits than Python converts."""
_NUMBERS = re.compile(r"(\+{0,2}placement\.layers)=(\d+(?:\s*,\s*\d+)+)")


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The composed configuration for these overrides, as `run.py` would see it, without running anything."""
    register_schemas()
    # Hydra keeps one global instance; inside a sweep it is that of `run.py`, which is put back.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return compose("config", with_config_dirs(overrides))
    except _REFUSALS as err:
        raise ConfigError([Fault("configuration", f"cannot be composed: {str(err).splitlines()[0]}")]) from err
    finally:
        GlobalHydra.instance().hydra = outer


def check_overrides(overrides: Sequence[str], *, is_sweep: bool = True) -> list[Fault]:
    """Every fault in these command-line overrides; an empty list when Hydra can compose them."""
    parsed, faults = _parse(overrides)
    faults.extend(_repeated(parsed))
    for item in [item for item in parsed if _is_of_hydra(item)]:
        parsed.remove(item)
        if item.key_or_group != SEARCHPATH:
            faults.append(hydra_fault(item.key_or_group))
    for item in [item for item in parsed if item.package is not None]:
        parsed.remove(item)
        faults.append(Fault(item.get_key_element(), "a group has one place here; leave '@...' out"))
    if not is_sweep:
        several = [item for item in parsed if item.is_sweep_override()]
        faults.extend(Fault(item.key_or_group, _explain_sweep(item)) for item in several)
        parsed = [item for item in parsed if item not in several]
    for item in [item for item in parsed if item.key_or_group == "sweeps"]:
        parsed.remove(item)
        faults.extend(_sweeps_faults(item, is_sweep=is_sweep))
    ours = parsed
    for item in [item for item in ours if item.is_delete()]:
        ours.remove(item)
        faults.append(
            Fault(item.key_or_group, "cannot be taken away; set it to another value, or to null where it may be")
        )
    choices = [item for item in ours if _is_group(item.key_or_group)]
    wrong: dict[str, list[Fault]] = {}
    for item in choices:
        if of_choice := list(_choice_faults(item)):
            wrong[item.key_or_group] = of_choice
            faults.extend(of_choice)
    # What a wrong choice would have brought is unknown, so its keys are not judged.
    choices = [item for item in choices if item.key_or_group not in wrong]
    values = [item for item in ours if not _is_group(item.key_or_group)]
    values = [item for item in values if item.key_or_group.split(".")[0] not in wrong]
    trees = [_compose_choices(choices, variant) for variant in range(max(map(_num_values, choices), default=1))]
    for item in values:
        found = [list(_value_faults(item, tree)) for tree in trees]
        if all(found):
            faults.extend(found[0])
    return faults


def _is_of_hydra(item: Override) -> bool:
    return bool(item.is_hydra_override()) or item.key_or_group.split(".")[0].split("/")[0] == "hydra"


def _repeated(parsed: Sequence[Override]) -> Iterator[Fault]:
    """Keys that are given more than once: which of the values is meant, nobody knows."""
    texts: dict[str, list[str]] = {}
    for item in parsed:
        if not item.is_delete():
            texts.setdefault(item.key_or_group, []).append(item.get_value_string())
    for key, values in texts.items():
        if len(values) > 1:
            given = ", ".join(map(shown, values))
            distinct = ",".join(dict.fromkeys(values))
            is_listed = "," in distinct and not any(mark in distinct for mark in "($")
            sweep = f", or sweep over them with -m {key}={shown(distinct)}" if is_listed else ""
            yield Fault(key, f"is given {len(values)} times ({given}); give it once{sweep}")


def _explain_sweep(item: Override) -> str:
    values = item.get_value_string()
    as_list = f", or write [{values}] for one list" if item.key_or_group in LISTS else ""
    return f"several values ({values}) make a sweep; add -m{as_list}"


def key_of(word: str) -> str:
    """`lora.r` of `lora.r=1,4`, `+lora.r=1` and `~lora.r`."""
    return word.lstrip("+~").split("=", 1)[0]


def set_values(words: Sequence[str]) -> dict[str, str]:
    """Return key -> text of its value or values, of words that have a meaning."""
    return {item.key_or_group: item.get_value_string() for item in parse(words) if not item.is_delete()}


def first_value(word: str) -> str:
    """The word with the first value of its sweep; a plain word, or one whose values are drawn, as it is.

    Raises:
        ConfigError: If it has no meaning.
    """
    (item,) = parse([word])
    is_listed = item.is_sweep_override() and not item.is_interval_sweep()
    return f"{item.key_or_group}={split_values(item)[0]}" if is_listed else word


def understood(words: Sequence[str]) -> list[str]:
    """The words of a command line as Hydra is to be given them, where it would read what users type in another way."""
    return quote_values(bracket_layers(imply_group(words)))


def bracket_layers(words: Sequence[str]) -> list[str]:
    """The words, with `placement.layers=0,2,5` as the one list that it is, where Hydra would see a sweep.

    Single layers are swept over with `placement.layers=choice(0,2,5)`; other values, `first:4,last:4`, as ever.
    """
    return [_NUMBERS.sub(r"\1=[\2]", word) if _NUMBERS.fullmatch(word) else word for word in words]


def imply_group(words: Sequence[str]) -> list[str]:
    """The words, with `processes=ddp` where they say how many (`processes.count=8`) and not what each of them holds."""
    keys = [key_of(word) for word in words]
    first = next((index for index, key in enumerate(keys) if key.startswith("processes.")), None)
    if first is None or "processes" in keys:
        return list(words)
    return [*words[:first], "processes=ddp", *words[first:]]


def quote_values(words: Sequence[str]) -> list[str]:
    """The words, with values that Hydra's grammar cannot read (`~/x`, `größe`, `a (1).csv`) quoted for it."""
    parser = OverridesParser.create()

    def is_readable(word: str) -> bool:
        try:
            parser.parse_override(word)
        except HydraException:
            return False
        except ValueError:  # of Python, a number with more digits than it converts; quotes would make it a text
            return True
        return True

    quoted = []
    for word in words:
        key, is_assignment, value = word.partition("=")
        candidate = f"{key}='{value}'"
        is_awkward = is_assignment and not word.startswith("-") and "'" not in value and not is_readable(word)
        quoted.append(candidate if is_awkward and is_readable(candidate) else word)
    return quoted


def split_values(item: Override) -> list[str]:
    """Each value of a sweep over discrete values as override text; one entry for a plain value.

    Raises:
        ConfigError: For `interval(...)`, which has no list of values.
    """
    if not item.is_sweep_override():
        return [item.get_value_string()]
    if item.is_interval_sweep():
        raise ConfigError(
            [
                Fault(
                    item.get_key_element(),
                    f"'{item.get_value_string()}' is an interval, which only a search can draw from; "
                    "a grid needs values: a,b,c or choice(a,b) or range(1,9,2)",
                )
            ]
        )
    if (count := _num_listed(item._value)) > MOST_VALUES:
        given = shown(item.get_value_string())
        problem = f"'{given}' has {count:.3g} values, and {MOST_VALUES} is the most that are listed"
        raise ConfigError([Fault(item.get_key_element(), f"{problem}; use interval(low,high) to draw from it")])
    if isinstance(item._value, Glob):
        return _matching(item, item._value)
    if isinstance(item._value, ChoiceSweep):
        # A grid is done in a fixed order; a search draws in its sampler's.
        item._value.shuffle = False
    return list(item.sweep_string_iterator())


def _num_listed(sweep: Any) -> float:
    if isinstance(sweep, ChoiceSweep):
        return len(sweep.list)
    if not isinstance(sweep, RangeSweep):
        return 0
    start, stop, step = (float(number or 0) for number in (sweep.start, sweep.stop, sweep.step))
    return abs(stop - start) / abs(step) if step else math.inf


def parse(overrides: Sequence[str]) -> list[Override]:
    """Hydra's own parse of the overrides.

    Raises:
        ConfigError: With every override that has no meaning.
    """
    parsed, faults = _parse(overrides)
    if faults:
        raise ConfigError(faults)
    return parsed


def _parse(overrides: Sequence[str]) -> tuple[list[Override], list[Fault]]:
    parser = OverridesParser.create()
    parsed: list[Override] = []
    faults: list[Fault] = []
    for text in overrides:
        try:
            item = parser.parse_override(text)
            if not item.key_or_group.strip():
                raise HydraException("no key")
            parsed.append(item)
        except (HydraException, ValueError):  # of Python, a number with more digits than it converts
            faults.append(_word_fault(text))
    return parsed, faults


def _word_fault(text: str) -> Fault:
    """Of a word without a meaning: the option, the number or the character that it fails by."""
    if text.startswith("-"):
        return Fault(text, "unknown option; `python run.py --hydra-help` lists those of Hydra, `--help` the keys")
    key, is_assignment, value = text.partition("=")
    if is_assignment and (problem := digits_problem(value)) is not None:
        return Fault(key, problem)
    if is_assignment and (odd := _ODD.findall(key)):
        named = ", ".join(f"'{char}'" for char in dict.fromkeys(odd))
        return Fault(text, f"no key has {named} in its name; write key=value, or key=a,b with -m")
    return Fault(text, "not an override; write key=value, or key=a,b with -m")


def _matching(item: Override, pattern: Glob) -> list[str]:
    key = item.key_or_group
    if not _is_group(key):
        raise ConfigError([Fault(key, f"glob chooses among files; groups: {', '.join(group_names())}")])
    names = pattern.filter(group_choices(key))
    if not names:
        given = item.get_value_string()
        raise ConfigError([Fault(key, f"'{given}' matches nothing; available: {', '.join(group_choices(key))}")])
    return names


def _sweeps_faults(item: Override, *, is_sweep: bool) -> Iterator[Fault]:
    name, accepted = item.get_value_string(), study_files()
    if not is_sweep:
        yield Fault("sweeps", f"'{name}' is a study of many runs; add -m")
    elif name not in accepted:
        yield Fault("sweeps", f"no study '{name}'{suggest(name, accepted)}; available: {', '.join(accepted)}")


def _is_group(name: str) -> bool:
    return name in group_names()


def _choice_faults(item: Override) -> Iterator[Fault]:
    accepted = group_choices(item.key_or_group)
    try:
        values = split_values(item)
    except ConfigError as err:
        yield from err.faults
        return
    for value in values:
        if value not in accepted:
            near = near_choice(item.key_or_group, value, accepted)
            yield Fault(item.key_or_group, f"no choice '{shown(value)}'{near}; available: {', '.join(accepted)}")


def _num_values(item: Override) -> int:
    return len(split_values(item))


def _compose_choices(choices: Sequence[Override], variant: int) -> DictConfig:
    """The tree with the variant-th choice of every group (the last one where a group has fewer)."""
    words = []
    for item in choices:
        values = split_values(item)
        prefix = "+" if item.is_add() else ""
        words.append(f"{prefix}{item.key_or_group}={values[min(variant, len(values) - 1)]}")
    return compose_config(words)


def _key_faults(item: Override, tree: DictConfig) -> Iterator[Fault]:
    key = item.key_or_group
    node: Any = tree
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none():
            yield Fault(
                key,
                f"'{'.'.join(walked)}' is a value and has no key '{part}'{near_key(key, item.get_value_string(), ())}",
            )
            return
        if part not in node:
            names = sorted(str(name) for name in node if name != "hydra")
            if not walked:
                names = sorted({*names, *group_names()})
            elif OmegaConf.get_type(node) is dict:
                return
            where = f" in '{'.'.join(walked)}'" if walked else ""
            owners = _choices_with(walked[0], part) if len(walked) == 1 else ""
            near = (
                "" if owners else near_key(key, item.get_value_string(), [".".join((*walked, name)) for name in names])
            )
            yield Fault(key, f"no key '{part}'{where}{near}; available: {', '.join(names)}{owners}")
            return
        walked.append(part)
        node = node._get_node(part)


def _choices_with(group: str, part: str) -> str:
    """Which other choices of a group have this key, in words; empty if none has."""
    owners = [
        name.removeprefix("base_")
        for name, schema in SCHEMAS.get(group, {}).items()
        if part in {entry.name for entry in dataclasses.fields(schema)}
    ]
    return f"; {group}={', '.join(owners)} would have it" if owners else ""


def _own_fault(key: str) -> Fault | None:
    """Of a key that is no user's to set: the name of a choice decides nothing, and digests are computed."""
    group, _, rest = key.partition(".")
    if rest == "name" and group in NAMED_BY_CHOICE:
        return Fault(key, f"says which choice was made and makes none; write {group}=NAME")
    if rest.endswith("_digest"):
        return Fault(key, "is computed from what is read; leave it out")
    return None


def _value_faults(item: Override, tree: DictConfig) -> Iterator[Fault]:
    key = item.key_or_group
    faults = list(_key_faults(item, tree))
    if faults:
        yield from faults
        return
    if (fault := _own_fault(key)) is not None:
        yield fault
        return
    if item.is_interval_sweep():
        return
    try:
        texts = split_values(item)
    except ConfigError as err:
        yield from err.faults
        return
    parser = OverridesParser.create()
    for text in texts:
        problem = value_problem(tree, key, parser.parse_override(f"{key}={text}").value(), text)
        if problem is not None:
            yield Fault(key, problem)

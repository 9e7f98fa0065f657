"""The words of `run.py`: options and overrides in any order, checked for options that would mean nothing here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from lora_bench.config.aliases import KEYS, leaves, like_keys
from lora_bench.config.hydra_words import searchpath_word
from lora_bench.config.values import digits_problem
from lora_bench.errors import ConfigError, Fault, suggest

_REFUSED = {
    "config_path": "the configuration is that of conf/; --config-dir DIR adds choices of your own",
    "config_name": "the configuration is conf/config.yaml; --config-dir DIR adds choices of your own",
    "experimental_rerun": "a run is repeated by its own command, which its result.json holds; again=2 trains it anew",
}
"""Options of Hydra's that would put another configuration in the place of ours."""


@dataclass(frozen=True)
class CommandLine:
    """What was asked for."""

    options: tuple[str, ...]
    """Hydra's, to be given before the overrides: it does not take overrides on both sides of an option."""
    overrides: tuple[str, ...]
    is_sweep: bool


class _Reader(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError([Fault("command line", f"{message}; `python run.py --help` lists what there is")])


def read_command_line(words: Sequence[str]) -> CommandLine:
    """Sort the words of a command line; `--config-dir DIR` becomes a word of Hydra's search path.

    Raises:
        ConfigError: With every option that means nothing here.
    """
    if faults := [fault for word in words if (fault := _text_fault(word)) is not None]:
        raise ConfigError(faults)
    reader = _reader()
    given, unknown = reader.parse_known_intermixed_args(list(words))
    known = [name for action in reader._actions for name in action.option_strings if name.startswith("--")]
    rest = (*given.overrides, *unknown)
    faults = [_unknown_option(word, known) for word in rest if word.startswith("-")]
    faults += [Fault(_dashed(name), why) for name, why in _REFUSED.items() if getattr(given, name)]
    overrides = [word for word in rest if not word.startswith("-")]
    if given.config_dir is not None:
        folder = Path(given.config_dir).expanduser().absolute()
        if not folder.is_dir():
            faults.append(Fault("--config-dir", f"{folder} is not a folder; give one with model/NAME.yaml or the like"))
        overrides.insert(0, searchpath_word(folder))
    if faults:
        raise ConfigError(faults)
    return CommandLine(tuple(_options(given)), tuple(overrides), given.multirun)


def _reader() -> argparse.ArgumentParser:
    """Hydra's own parser, whose errors are raised, and which ends nothing itself."""
    theirs = get_args_parser()
    reader = _Reader(add_help=False, allow_abbrev=False, prog="run.py", parents=[theirs])
    return reader


def _options(given: argparse.Namespace) -> list[str]:
    flags = ("help", "hydra_help", "resolve", "run", "multirun", "shell_completion")
    options = [_dashed(name) for name in flags if getattr(given, name)]
    for name in ("cfg", "package", "info"):
        if (value := getattr(given, name)) is not None:
            options += [_dashed(name), str(value)]
    return options


def _unknown_option(word: str, known: Sequence[str]) -> Fault:
    name, _, value = word.partition("=")
    bare = name.lstrip("-")
    if bare.lower().replace("-", "_") in {*KEYS, *leaves()} or "." in bare:
        keys = like_keys(bare) or (bare,)
        near = f"; keys have no dashes: {' or '.join(f'{key}={value}' if value else f'{key}=VALUE' for key in keys)}"
    else:
        near = suggest(name, known) or "; keys are written as key=value, without dashes"
    return Fault(word, f"unknown option{near}; `python run.py --help` lists choices and keys")


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text_fault(word: str) -> Fault | None:
    """Of bytes that are no UTF-8, which neither a record nor a store could hold, and of numbers that Python cannot."""
    try:
        word.encode()
    except UnicodeEncodeError:
        legible = word.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return Fault(legible, "holds bytes that are no UTF-8 text, which no record can hold; rename the file or folder")
    if "\0" in word:
        return Fault(word.replace("\0", "\\0"), "holds a zero byte; leave it out")
    key, _, value = word.partition("=")
    return Fault(key, problem) if (problem := digits_problem(value)) is not None else None

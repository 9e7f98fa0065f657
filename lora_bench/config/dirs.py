"""Folders of a user's own choices, `--config-dir`: DIR/model/NAME.yaml stands beside the files of `conf/model/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from lora_bench.config.hydra_words import SEARCHPATH, searchpath_folders, searchpath_word
from lora_bench.config.store import CONF_DIR, config_dirs, group_names, use_config_dirs
from lora_bench.errors import ConfigError, Fault


def adopt_config_dirs(words: Sequence[str]) -> None:
    """Have the choices count that stand in the folders of `--config-dir`, which is among the words as a search path.

    Raises:
        ConfigError: If such a folder is not there, or has a choice with the name of one in `conf/`.
    """
    parser = OverridesParser.create()
    values = [parser.parse_override(word).value() for word in words if word.startswith(f"{SEARCHPATH}=")]
    found = list(map(searchpath_folders, values))
    folders = [folder for some in found for folder in some or ()]
    faults = list(_config_dir_faults(folders))
    if None in found:
        faults.append(Fault(SEARCHPATH, "is set by --config-dir DIR, which takes a folder; use that"))
    if faults:
        raise ConfigError(faults)
    use_config_dirs(folders)


def with_config_dirs(overrides: Sequence[str]) -> list[str]:
    """Return the words, with the folders of `--config-dir` where they do not name them: Hydra keeps its own apart."""
    further = [] if any(SEARCHPATH in word for word in overrides) else config_dirs()[1:]
    return [*(searchpath_word(folder) for folder in further), *overrides]


def _config_dir_faults(folders: Sequence[Path]) -> Iterator[Fault]:
    for folder in folders:
        if not folder.is_dir():
            yield Fault("--config-dir", f"{folder} is not a folder; give one with model/NAME.yaml or the like")
            continue
        found = [(group, path) for group in group_names() for path in sorted((folder / group).glob("*.yaml"))]
        if not found:
            groups = ", ".join(group_names())
            yield Fault("--config-dir", f"{folder} has no choices; put YAML files into a folder named {groups}")
        for group, path in found:
            if (CONF_DIR / group / path.name).exists():
                yield Fault("--config-dir", f"{path} has the name of {group}={path.stem}, which stays; rename the file")

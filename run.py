"""Composes a configuration and runs it once, or sweeps over it with -m. `python run.py --help` lists the keys."""

from __future__ import annotations

import sys
from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from lora_bench.config.commandline import read_command_line
from lora_bench.config.dirs import adopt_config_dirs
from lora_bench.config.overrides import understood
from lora_bench.config.store import register_schemas
from lora_bench.errors import ConfigError, LoraBenchError, system_text
from lora_bench.launchers import check_launcher, forget_launcher, forgotten_note
from lora_bench.preflight import check_words
from lora_bench.redact import shown
from lora_bench.terminal import make_printable


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def compose_and_run(composed: DictConfig) -> None:
    """Called by Hydra with the composed configuration, without -m; with -m our sweeper is called instead."""
    from hydra.core.hydra_config import HydraConfig

    from lora_bench.single import run_single

    words = HydraConfig.get().overrides.task
    sys.exit(told(lambda: run_single(composed, list(words))))


def main() -> int:
    """Checks every word of the command line first, so that all faults are said at once."""
    check_launcher(command=sys.argv)
    if left := forget_launcher():
        print(forgotten_note(left), file=sys.stderr)
    register_schemas()
    line = read_command_line(sys.argv[1:])
    overrides = understood(line.overrides)
    adopt_config_dirs(overrides)
    check_words(overrides, is_sweep=line.is_sweep)
    sys.argv[1:] = [*line.options, *overrides]
    compose_and_run()
    return 0


def told(action: Callable[[], int]) -> int:
    """The exit code of an action; an error of ours is told in its own words, without a traceback."""
    try:
        return action()
    except LoraBenchError as err:
        print(shown(str(err)), file=sys.stderr)
        return 2 if isinstance(err, ConfigError) else 1
    except OSError as err:  # of the system, about a file or a device, and not about this program
        print(shown(system_text(err)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    make_printable()
    sys.exit(told(main))

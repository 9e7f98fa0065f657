"""Composes a configuration and runs it once, or sweeps over it with -m. `python run.py --help` lists the keys."""

from __future__ import annotations

import sys
from collections.abc import Callable

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from lora_bench.config.overrides import understood
from lora_bench.config.store import register_schemas
from lora_bench.errors import ConfigError, LoraBenchError
from lora_bench.launchers import check_launcher, forget_launcher, forgotten_note
from lora_bench.preflight import check_words


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def compose_and_run(composed: DictConfig) -> None:
    """Called by Hydra with the composed configuration, without -m; with -m our sweeper is called instead."""
    from lora_bench.single import run_single

    sys.exit(told(lambda: run_single(composed)))


def main() -> int:
    """Checks every word of the command line first, so that all faults are said at once."""
    check_launcher(command=sys.argv)
    if left := forget_launcher():
        print(forgotten_note(left), file=sys.stderr)
    register_schemas()
    sys.argv[1:] = understood(sys.argv[1:])
    arguments = get_args_parser().parse_args()
    check_words(arguments.overrides, is_sweep=arguments.multirun)
    compose_and_run()
    return 0


def told(action: Callable[[], int]) -> int:
    """The exit code of an action; an error of ours is told in its own words, without a traceback."""
    try:
        return action()
    except LoraBenchError as err:
        print(err, file=sys.stderr)
        return 2 if isinstance(err, ConfigError) else 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(told(main))

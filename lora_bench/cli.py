"""The `lora-bench` command: shows and uses what was recorded.

Imports what a command needs when it runs, so that help is quick.

Exit codes: 0 done, 2 a command line that cannot be carried out, 1 anything else, 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lora_bench.artifacts import commands as artifact_commands
from lora_bench.diskpaths import reading_problem
from lora_bench.errors import ConfigError, LoraBenchError, TrackingError, UsageError, suggest, system_text
from lora_bench.listing import add_selection
from lora_bench.redact import shown
from lora_bench.search import commands as study_commands
from lora_bench.terminal import make_printable

if TYPE_CHECKING:
    from lora_bench.rundir import RunDir

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
DEFAULT_ROOT = "outputs"
DEFAULT_PORT = 5000
RUN_ARGUMENTS = ("run_name", "run_names", "head", "parts")
"""Arguments of commands that name runs; `parts` with a weight after each."""


class Parser(argparse.ArgumentParser):
    """Says what was meant when a word is nearly right."""

    def error(self, message: str) -> NoReturn:
        """Ends with exit code 2."""
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if match:
            choices = re.findall(r"[\w-]+", match[2])
            message = f"unknown command '{match[1]}'{suggest(match[1], choices)}; commands: {', '.join(choices)}"
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


class ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Prints it and ends."""
        import importlib.metadata

        print(f"lora-bench {importlib.metadata.version('lora-bench')}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    make_printable()
    parser, commands = build_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.command is None:
        parser.print_help()
        return EXIT_USAGE
    if unknown:
        own = commands[arguments.command]
        options = re.findall(r"--[\w-]+", own.format_help())
        own.error(f"unknown word '{unknown[0]}'{suggest(unknown[0].split('=')[0], options)}; see {own.prog} --help")
    try:
        _resolve_addresses(arguments)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except LoraBenchError as err:
        print(shown(f"{type(err).__name__}: {err}"), file=sys.stderr)
        return EXIT_USAGE if isinstance(err, UsageError | ConfigError) else EXIT_FAILED
    except OSError as err:  # of the system, about a file or a device, and not about this program
        print(shown(system_text(err)), file=sys.stderr)
        return EXIT_FAILED


def _resolve_addresses(arguments: argparse.Namespace) -> None:
    """Puts the folder of a run in place of `best:STUDY` and `STUDY:TRIAL`, wherever a command takes a RUN."""
    given = vars(arguments)
    named = [name for name in RUN_ARGUMENTS if given.get(name)]
    if not any(":" in text for name in named for text in _texts(given[name])):
        return
    from lora_bench.search.address import resolve_part, resolve_run

    for name in named:
        resolve = resolve_part if name == "parts" else resolve_run
        found = [resolve(text, arguments.root) for text in _texts(given[name])]
        given[name] = found[0] if isinstance(given[name], str) else found


def _texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and that of each command."""
    parser = Parser(
        prog="lora-bench", description="What run.py recorded, what can be made of it, and what this machine can do."
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and end")
    group = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    commands: dict[str, argparse.ArgumentParser] = {}
    for name, run, text in (
        ("runs", show_runs, "list the runs with status, digest and headline score"),
        ("report", show_report, "compare runs: quality, parameters, memory, bytes and time beside full fine-tuning"),
        ("dashboard", show_dashboard, "bring the MLflow store up to date and serve its page on this machine"),
        ("sync", sync_store, "bring the MLflow store up to date with the run directories"),
        ("doctor", show_doctor, "find out what this machine can do"),
        ("data", show_data, "read a file of texts as a run would: columns, classes, repeats, conflicts, lengths"),
        *study_commands.COMMANDS,
        *artifact_commands.COMMANDS,
    ):
        command = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        command.set_defaults(run=run)
        command.add_argument(
            "--root", type=_folder, default=DEFAULT_ROOT, help="folder of the runs, paths.root (%(default)s)"
        )
        command.add_argument("--json", action="store_true", help="print data for programs")
        commands[name] = command
    study_commands.add_arguments(commands)
    artifact_commands.add_arguments(commands)
    for name in ("runs", "report"):
        add_selection(commands[name])
    commands["runs"].add_argument("--paths", action="store_true", help="show the folders of the runs, not their names")
    commands["report"].add_argument("--markdown", action="store_true", help="print Markdown in a terminal too")
    commands["report"].add_argument(
        "--margin",
        type=_margin,
        help="call rows equal whose difference is surely below this; choose it before you look (0.01 of an accuracy)",
    )
    commands["dashboard"].add_argument("--port", type=int, default=DEFAULT_PORT, help="on loopback (%(default)s)")
    cache = commands["doctor"].add_argument("--cache", type=_folder, default="~/.cache/lora-bench")
    cache.help = "folder of converted weights, paths.cache (%(default)s)"
    commands["doctor"].add_argument(
        "--cluster",
        action="store_true",
        help="what Slurm offers, or with executor=ray Ray, and whether it would run what is asked for",
    )
    commands["doctor"].add_argument("words", nargs="*", help="with --cluster: executor.partition=gpu and so on")
    commands["data"].add_argument(
        "file", metavar="FILE", help="CSV, TSV, JSON, JSON lines, parquet, Arrow; also compressed"
    )
    commands["data"].add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="task.label=COLUMN, task.eval=FILE; model=NAME adds its tokenizer's part",
    )
    for name in ("dashboard", "sync"):
        commands[name].add_argument(
            "--uri", default=os.environ.get("MLFLOW_TRACKING_URI"), help="MLflow store; default: SQLite in the root"
        )
        commands[name].add_argument(
            "--experiment",
            default=os.environ.get("MLFLOW_EXPERIMENT_NAME") or "lora_bench",
            help="MLflow experiment (%(default)s)",
        )
    return parser, commands


def show_runs(arguments: argparse.Namespace) -> int:
    """`lora-bench runs`."""
    from lora_bench.listing import describe, print_runs, selection_from
    from lora_bench.report import load_records
    from lora_bench.report.labels import varied_keys
    from lora_bench.report.select import select

    records, problems = load_records(_find_runs(arguments))
    for problem in problems:
        print(shown(problem), file=sys.stderr)
    varied = varied_keys(records)
    entries = [describe(record, varied) for record in select(records, selection_from(arguments))]
    if arguments.json:
        _print_json(entries)
    elif not entries:
        print(_nothing(len(records), arguments))
    else:
        print_runs(entries, with_paths=arguments.paths)
    return EXIT_FAILED if problems else EXIT_DONE


def show_data(arguments: argparse.Namespace) -> int:
    """`lora-bench data FILE`."""
    from rich.console import Console

    from lora_bench.datasheet import describe_file, render_description

    found = describe_file(arguments.file, arguments.words, console=Console(stderr=True))
    if arguments.json:
        _print_json(found)
    else:
        print(render_description(found))
    return EXIT_DONE


def show_report(arguments: argparse.Namespace) -> int:
    """`lora-bench report`."""
    from lora_bench.console import build_console
    from lora_bench.report import build_comparison, comparison_json, comparison_markdown, render_comparison

    runs, sort = _select_runs(arguments), arguments.sort
    asked = {"margin": arguments.margin, "edges": _rate_edges(arguments), "sort": sort}
    if arguments.json:
        _print_json(comparison_json(build_comparison(runs, **asked)))
    elif arguments.markdown:
        print(comparison_markdown(build_comparison(runs, **asked)))
    else:
        render_comparison(runs, console=build_console(), **asked)
    return EXIT_DONE


def _select_runs(arguments: argparse.Namespace) -> list[RunDir]:
    """The runs that a report is asked for; those that cannot be read go with them, since it names them."""
    from lora_bench.listing import selection_from
    from lora_bench.report import load_records
    from lora_bench.report.select import select

    runs, selection = _find_runs(arguments), selection_from(arguments)
    if selection.is_everything:
        return runs
    records, _ = load_records(runs)
    chosen = [record.run for record in select(records, selection)]
    if not chosen and records:
        raise UsageError(_nothing(len(records), arguments))
    readable = {record.run.path for record in records}
    return [*chosen, *(run for run in runs if run.path not in readable)]


def _nothing(num_runs: int, arguments: argparse.Namespace) -> str:
    root = arguments.root.absolute()
    if not num_runs:
        return f"no run in {root} yet; `python run.py` makes one"
    return f"none of the {num_runs} runs in {root} is of that kind; without options all are listed"


def show_dashboard(arguments: argparse.Namespace) -> int:
    """`lora-bench dashboard`."""
    from lora_bench.report import load_records
    from lora_bench.tracking import MlflowTracker
    from lora_bench.tracking.dashboard import check_port, serve_dashboard
    from lora_bench.tracking.store import is_server

    runs = _find_runs(arguments)
    tracker = MlflowTracker(root=arguments.root, uri=arguments.uri, experiment=arguments.experiment)
    if not is_server(tracker.uri):
        check_port(arguments.port)
    report = tracker.sync(runs, finished=True)
    results = [record.result for record in load_records(runs)[0] if record.result is not None]
    try:
        page = tracker.share_view(list(dict.fromkeys(result.headline for result in results if result.headline)))
    except TrackingError as err:
        _tell(problem for problem in report.problems if problem != str(err))
        raise
    _tell(report.problems)

    def tell(url: str) -> None:
        if arguments.json:
            _print_json({"url": url + page, "store": shown(tracker.uri), "num_runs": len(runs)})
        else:
            print(f"{len(runs)} runs at {url}{page}\nCtrl-C ends it")
        sys.stdout.flush()

    serve_dashboard(tracker.uri, root=arguments.root, port=arguments.port, on_ready=tell)
    return EXIT_DONE


def _tell(problems: Iterable[str]) -> None:
    for problem in problems:
        print(shown(problem), file=sys.stderr)


def sync_store(arguments: argparse.Namespace) -> int:
    """`lora-bench sync`."""
    from lora_bench.tracking import MlflowTracker

    runs = _find_runs(arguments)
    tracker = MlflowTracker(root=arguments.root, uri=arguments.uri, experiment=arguments.experiment)
    report = tracker.sync(runs, finished=True)
    store = shown(tracker.uri)
    if arguments.json:
        done = {"num_runs": len(runs), "num_written": report.num_written, "behind": report.behind}
        _print_json({**done, "problems": report.problems, "store": store})
    else:
        print(f"{report.num_written} of {len(runs)} runs had news for {store}; {len(report.behind)} behind")
        _tell(report.problems)
    return EXIT_FAILED if report.behind else EXIT_DONE


def show_doctor(arguments: argparse.Namespace) -> int:
    """`lora-bench doctor`."""
    from lora_bench import doctor, doctor_cluster

    if arguments.cluster:
        checks = doctor_cluster.examine_cluster(arguments.words, root=arguments.root)
    elif arguments.words:
        word = arguments.words[0]
        key, _, value = word.partition("=")
        option = {"paths.root": "--root", "paths.cache": "--cache"}.get(key)
        remedy = f"give {option} {value or 'DIR'}" if option else "give --cluster before it, or leave it out"
        raise UsageError(f"doctor: '{word}' is read with --cluster only; {remedy}")
    else:
        checks = doctor.examine(root=arguments.root, cache=arguments.cache)
    if arguments.json:
        _print_json([check.as_data() for check in checks])
    else:
        doctor.show(checks)
    return EXIT_FAILED if any(check.status == "fault" for check in checks) else EXIT_DONE


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def _margin(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0; 0.01 of an accuracy is usual")
    return value


def _rate_edges(arguments: argparse.Namespace) -> dict[str, str]:
    """Where rates lie in the spaces of the root's studies; a study that cannot be read decides nothing."""
    edges: dict[str, str] = {}
    if not (arguments.root / "studies").is_dir():
        return edges
    from lora_bench.search.edges import rate_edges
    from lora_bench.search.studydir import find_study_dirs

    try:
        edges = rate_edges(find_study_dirs(arguments.root))
    except LoraBenchError as err:
        print(err, file=sys.stderr)
    return edges


def _find_runs(arguments: argparse.Namespace) -> list[RunDir]:
    from lora_bench.rundir import find_run_dirs

    root: Path = arguments.root
    if (problem := reading_problem(root.absolute())) is not None:
        raise UsageError(f"--root: {problem}; give the folder of the runs, or record some with run.py")
    return find_run_dirs(root)


def _print_json(data: Any) -> None:
    import json

    from lora_bench.rundir import finite

    print(json.dumps(finite(data), indent=1))


if __name__ == "__main__":
    sys.exit(main())

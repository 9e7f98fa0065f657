"""The commands of `lora-bench` that use what runs have trained. Imports what a command needs when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_bench.artifacts.telling import telling
from lora_bench.artifacts.words import check_rounds, open_all, open_one, open_parts, read_dtype, read_shapes
from lora_bench.errors import UsageError

if TYPE_CHECKING:
    from lora_bench.artifacts.checks import Part
    from lora_bench.artifacts.latency import LatencyReport
    from lora_bench.artifacts.trained import TrainedRun

LOADING = "loading torch"
NUM_ROUNDS = 30
NUM_WARMUP = 3


def merge(arguments: argparse.Namespace) -> int:
    """`lora-bench merge RUN --out DIR`."""
    from lora_bench.artifacts.checks import check_mergeable

    dtype = read_dtype(arguments)
    trained = open_one(arguments.run_name, arguments)
    check_mergeable(trained, with_dequantised=arguments.dequantise)
    with telling("merge") as tell:
        tell(LOADING)
        from lora_bench.artifacts.merge import merge_run
        from lora_bench.report.format import bytes_text

        report = merge_run(trained, arguments.out, dtype=dtype, with_dequantised=arguments.dequantise, tell=tell)
    whole = ", no longer in four bits" if report.is_dequantised else ""
    moved = "training and rounding to four bits" if report.is_dequantised else "training"
    _print(
        arguments,
        report,
        f"{trained.name}: merged, in {report.dtype}{whole}, {bytes_text(report.num_bytes)}",
        f"outputs, in parts of the largest logit: {moved} moved them by {report.trained_difference:.2g}; merged and "
        f"unmerged differ by {report.fp32_difference:.1g} in fp32, and by {report.written_difference:.1g} as written",
        f'load it: {report.auto_class}.from_pretrained("{report.folder}", dtype="auto")',
    )
    return 0


def compose(arguments: argparse.Namespace) -> int:
    """`lora-bench compose RUN:0.7 RUN:0.3 --out DIR`."""
    from lora_bench.artifacts.checks import check_parts

    parts = open_parts(arguments)
    head = open_one(arguments.head, arguments) if arguments.head else None
    if head is not None and head.run not in [part.trained.run for part in parts]:
        raise UsageError(f"--head: {head.name} is none of the runs that are added")
    if arguments.adapter:
        return _compose_adapter(arguments, parts, head)
    if arguments.with_base:
        raise UsageError("--with-base: goes with --adapter; without it the base is in what is written")
    dtype = read_dtype(arguments)
    check_parts(parts, head)
    with telling("compose") as tell:
        tell(LOADING)
        from lora_bench.artifacts.compose import compose_runs
        from lora_bench.report.format import bytes_text

        report = compose_runs(parts, arguments.out, dtype=dtype, head=head, tell=tell)
    _print(
        arguments,
        report,
        f"base and {_sum_text(parts)}, in {report.dtype}, {bytes_text(report.num_bytes)}",
        f"{report.num_changed} tensors of the base are changed, {report.num_shared} of them by more than one run",
        *([f"task head: {report.head}"] if report.head else []),
        f'load it: {report.auto_class}.from_pretrained("{report.folder}", dtype="auto")',
    )
    return 0


def _compose_adapter(arguments: argparse.Namespace, parts: list[Part], head: TrainedRun | None) -> int:
    from lora_bench.artifacts.checks import check_summable

    if arguments.dtype:
        raise UsageError("--dtype: goes with a merged model; an adapter is written in fp32, its head as it was trained")
    check_summable(parts, head, with_base=arguments.with_base)
    with telling("compose") as tell:
        tell(LOADING)
        from lora_bench.artifacts.summed import compose_adapter
        from lora_bench.report.format import bytes_text

        report = compose_adapter(parts, arguments.out, head=head, with_base=arguments.with_base, tell=tell)
    _print(
        arguments,
        report,
        f"{_sum_text(parts)}: an adapter of rank up to {report.rank}, {bytes_text(report.num_bytes)}",
        f"PEFT and the merged sum differ by {report.fp32_difference:.1g} of the largest logit in fp32",
        *([f"task head: {report.head}"] if report.head else []),
        f'load it: PeftModel.from_pretrained(base, "{report.folder}"), the base is {report.base}',
    )
    return 0


def switch(arguments: argparse.Namespace) -> int:
    """`lora-bench switch RUN... --prompt TEXT`."""
    from lora_bench.artifacts.checks import check_switchable

    if len(arguments.run_names) < 2:
        raise UsageError("RUN: a switch needs two runs or more")
    if not all(text.strip() for text in arguments.prompt):
        raise UsageError("--prompt: is empty; give a text as the task has them")
    check_rounds(arguments)
    runs = open_all(arguments)
    check_switchable(runs)
    from lora_bench.artifacts.switch import switch_runs
    from lora_bench.artifacts.tables import switch_table
    from lora_bench.report.format import bytes_text, ms_text

    report = switch_runs(runs, arguments.prompt, num_rounds=arguments.rounds)
    _print(
        arguments,
        report,
        f"base: {bytes_text(report.base_bytes)} in memory, loaded in {ms_text(report.base_load_ms)}",
        switch_table(report, arguments.prompt),
        f"Switches: median [10th, 90th percentile] of {arguments.rounds} rounds in turn. Loading the first adapter "
        f"also wraps the network.",
    )
    return 0


def latency(arguments: argparse.Namespace) -> int:
    """`lora-bench latency RUN... --batch 1,16,32 --length 128,256,512`."""
    from lora_bench.artifacts.checks import check_shapes

    shapes = read_shapes(arguments)
    check_rounds(arguments)
    runs = open_all(arguments)
    check_shapes(runs, shapes)
    from lora_bench.artifacts.latency import measure_latency

    def tell(batch: int, length: int, num_networks: int) -> None:
        print(f"batch {batch}, {length} tokens: {num_networks} networks in turn", file=sys.stderr, flush=True)

    report = measure_latency(runs, shapes, num_rounds=arguments.rounds, num_warmup=NUM_WARMUP, on_shape=tell)
    _print_latency(arguments, report, runs[0])
    return 0


def _print_latency(arguments: argparse.Namespace, report: LatencyReport, trained: TrainedRun) -> None:
    import torch

    from lora_bench.artifacts.tables import latency_table
    from lora_bench.measure import machine

    num_threads = torch.get_num_threads()
    made = machine.provenance(seed=0, num_threads=num_threads, weights_digest=trained.base_digest, data_digest="")
    if arguments.json:
        _print_json({**dataclasses.asdict(report), "provenance": dataclasses.asdict(made)})
        return
    print(latency_table(report))
    print(
        f"\nOne forward pass: median [10th, 90th percentile] of {arguments.rounds} rounds in turn, after {NUM_WARMUP} "
        "to warm up.\nPer cent: to the base in the same round, median with its 95 % interval. Inside the noise: the "
        "interval holds 0, against the base or against its copy."
    )
    plain = "; ".join(network.name for network in report.networks[1:-1] if network.is_plain)
    if plain:
        print(f"The same modules and shapes as the base, one by one: {plain}.")
    print(f"{trained.config.model.name}, {trained.dtype.value}, {made.hardware}, {num_threads} threads.")


def export(arguments: argparse.Namespace) -> int:
    """`lora-bench export RUN --out DIR`."""
    from lora_bench.artifacts.checks import check_exportable

    trained = open_one(arguments.run_name, arguments)
    check_exportable(trained, with_base=arguments.with_base)
    with telling("export") as tell:
        tell(LOADING)
        from lora_bench.artifacts.export import export_run
        from lora_bench.report.format import bytes_text

        report = export_run(trained, arguments.out, with_base=arguments.with_base, tell=tell)
    joined = f", {report.num_joined} fused matrices joined" if report.num_joined else ""
    same = "are those of the run bit for bit" if report.difference == 0 else f"differ by {report.difference:.1g}"
    _print(
        arguments,
        report,
        f"{trained.name}: exported, {bytes_text(report.num_bytes)}{joined}",
        f"PEFT's outputs {same} ({report.fp32_difference:.1g} of the largest logit in fp32)",
        "lora-bench import brings the run back bit for bit"
        if report.is_restorable
        else "lora-bench import cannot bring it back: roles of one fused matrix have different ranks or scales",
        f'load it: PeftModel.from_pretrained(base, "{report.folder}"), the base is {report.base}',
    )
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """`lora-bench import DIR`."""
    from lora_bench.artifacts.exported import check_export

    folder = arguments.folder.expanduser()
    check_export(folder, arguments.root)
    with telling("import") as tell:
        tell(LOADING)
        from lora_bench.artifacts.restore import import_run

        run = import_run(folder, arguments.root, tell=tell)
    if arguments.json:
        _print_json({"path": str(run.path)})
    else:
        print(f"{run.path}: recorded, its weights as the run wrote them, bit for bit")
    return 0


Command = tuple[str, Callable[[argparse.Namespace], int], str]
COMMANDS: tuple[Command, ...] = (
    ("merge", merge, "write a run as a plain model folder that from_pretrained loads"),
    ("compose", compose, "add up what several runs trained, each with its weight, as one model or one adapter"),
    ("switch", switch, "exchange the adapters of several runs over one base in memory, and ask each the same"),
    ("latency", latency, "time a forward pass of base, merged and unmerged networks, as Table 1 of the LoRA paper"),
    ("export", export, "write a run's adapter in PEFT's format, with its record"),
    ("import", import_, "bring an exported run back under --root"),
)


def add_arguments(commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """What these commands take beside `--root` and `--json`."""
    run_help = "name of a run or its beginning, see `lora-bench runs`, or its folder"
    for name in ("merge", "export"):
        commands[name].add_argument("run_name", metavar="RUN", help=run_help)
    for name in ("switch", "latency"):
        commands[name].add_argument("run_names", metavar="RUN", nargs="+", help=run_help)
        commands[name].add_argument("--rounds", type=int, default=NUM_ROUNDS, help="rounds that count (%(default)s)")
    commands["compose"].add_argument("parts", metavar="RUN:WEIGHT", nargs="+", help=f"{run_help}; and its weight")
    for name in ("merge", "compose", "export"):
        commands[name].add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    for name in ("merge", "compose"):
        commands[name].add_argument("--dtype", help="fp32 or bf16; default: that of the training")
    commands["merge"].add_argument(
        "--dequantise",
        action="store_true",
        help="write a run whose base is in four bits (qlora, loftq) as a whole model",
    )
    for name in ("compose", "export"):
        commands[name].add_argument("--with-base", action="store_true", help="write the base model beside the adapter")
    commands["compose"].add_argument("--adapter", action="store_true", help="write an adapter of the summed rank")
    commands["compose"].add_argument("--head", metavar="RUN", help="take this run's task head, not the weighted mean")
    commands["switch"].add_argument("--prompt", action="append", required=True, metavar="TEXT", help="may be repeated")
    commands["latency"].add_argument("--batch", default="1,16,32", help="batch sizes (%(default)s)")
    commands["latency"].add_argument("--length", default="128,256,512", help="tokens of a text (%(default)s)")
    commands["latency"].add_argument(
        "--grid", action="store_true", help="every batch size with every length; default: the first with the first, ..."
    )
    commands["import"].add_argument("folder", type=Path, metavar="DIR", help="what lora-bench export wrote")


def _sum_text(parts: Sequence[Part]) -> str:
    """`0.7 A - 0.3 B`."""
    terms = [f"{'-' if part.weight < 0 else '+'} {abs(part.weight):g} {part.trained.name}" for part in parts]
    return " ".join(terms).removeprefix("+ ")


def _print(arguments: argparse.Namespace, report: Any, *lines: str) -> None:
    if arguments.json:
        _print_json(dataclasses.asdict(report))
    else:
        print("\n".join(lines))


def _print_json(data: object) -> None:
    from lora_bench.rundir import finite

    print(json.dumps(finite(data), indent=1))

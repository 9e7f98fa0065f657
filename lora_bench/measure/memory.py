"""Memory: bytes of live tensors over one training step, and the process's own peak.

On a CPU the peak that the kernel reports (`VmHWM`) moves by some percent between repeats and holds half a
gigabyte of libraries. The bytes of live tensors are exact and repeatable, so they are what is compared; the
kernel's number stands beside them.
"""

from __future__ import annotations

import errno
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_CGROUP = Path("/sys/fs/cgroup")
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "Cannot allocate memory",
    "could not create a primitive",  # oneDNN, whose scratch memory was refused
    "could not create a memory",
)


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages behind these tensors; a view costs nothing."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def weight_tensors(net: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and the scales of weights that bitsandbytes has packed into four bits."""
    tensors = [*net.parameters(), *net.buffers()]
    states = [getattr(tensor, "quant_state", None) for tensor in tensors]
    states += [getattr(state, "state2", None) for state in states]
    parts = (getattr(state, part, None) for state in states for part in ("absmax", "code", "offset"))
    return [*tensors, *(part for part in parts if isinstance(part, Tensor))]


def num_values(parameter: Tensor) -> int:
    """Numbers that a parameter stands for: packed into four bits, two are kept in one byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type its modes
    """Counts the bytes of live tensor storages while it is entered.

    Sees every tensor that an operator returns, forward and backward, without changing any number. What was live
    before is given by `already`; storages that appear are counted once and leave when they are freed. Scratch
    memory inside one kernel is not seen.
    """

    def __init__(self, already: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: dict[int, int] = {}
        self.current_bytes = 0
        self.peak_bytes = 0
        for tensor in already:
            self._add(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        size = storage.nbytes()
        self._live[key] = size
        self.current_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.current_bytes)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.current_bytes -= self._live.pop(key, 0)


def reset_peak_rss() -> bool:
    """Makes the kernel forget the process's peak; False where that is not permitted (see proc(5), clear_refs)."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def peak_rss_bytes() -> int | None:
    """Largest resident size since the last reset; None where the kernel does not say."""
    return _status_bytes("VmHWM")


def current_rss_bytes() -> int | None:
    """Resident size now; None where the kernel does not say."""
    return _status_bytes("VmRSS")


def _status_bytes(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def data_bytes() -> int:
    """What this process counts against RLIMIT_DATA already; 0 where the kernel does not say."""
    return _status_bytes("VmData") or 0


def available_bytes() -> int | None:
    """Memory that a process here can still have without swapping, also in a container; None where nobody says."""
    free = [value for value in (_host_available_bytes(), _cgroup_available_bytes()) if value is not None]
    return min(free, default=None)


def share_of_available(asked_bytes: float) -> float:
    """Which part of the memory that is free now this is, in (0, 1]; 1 where nobody says what is free."""
    available = available_bytes()
    return min(1.0, asked_bytes / available) if available else 1.0


def _cgroup_available_bytes() -> int | None:
    """What the container's limit leaves (cgroup v2, memory.max and memory.current); None where there is none."""
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):
        return None


def _host_available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an exception says that memory ran out, on CUDA, in torch's CPU allocator or in Python."""
    if isinstance(err, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(err, OSError):
        return err.errno == errno.ENOMEM
    return isinstance(err, RuntimeError) and any(words in str(err) for words in _OUT_OF_MEMORY)

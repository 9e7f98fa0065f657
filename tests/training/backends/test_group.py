"""What was asked for against what was started. Oracle: the traps that were met with these libraries."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from lora_bench.config.processes import DdpConfig
from lora_bench.errors import ExecutionError
from lora_bench.training.backends.ddp import DdpBackend
from lora_bench.training.backends.group import check_accelerator, is_from_elsewhere, join_group


def test_another_number_of_processes_than_asked_for_is_refused(tmp_path):
    started = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
    with pytest.raises(ExecutionError, match="asked for 2 processes, but 1 were started"):
        join_group(DdpConfig(count=2), meeting_file=tmp_path / "meeting", environment=started)
    assert not dist.is_initialized()


def test_a_backend_without_a_group_is_refused():
    with pytest.raises(ExecutionError, match="no process group"):
        DdpBackend()


@pytest.mark.parametrize(("found", "number"), [("NO", 1), ("MULTI_CPU", 1), ("DEEPSPEED", 2), ("NO", 2)])
def test_what_accelerate_silently_makes_of_it_is_refused(found, number):
    expected = frozenset({"MULTI_CPU", "MULTI_GPU"})
    with pytest.raises(ExecutionError, match=f"asked for DDP with 2 processes, but Accelerate found {found} with"):
        check_accelerator(found, expected, num_processes=number, num_expected=2, what="DDP")


def test_what_was_asked_for_is_taken():
    check_accelerator("MULTI_CPU", frozenset({"MULTI_CPU"}), num_processes=2, num_expected=2, what="DDP")


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1"), True),
        (dist.DistBackendError("NCCL communicator was aborted"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("gloo"), False),
    ],
)
def test_the_end_of_another_process_is_told_from_a_fault_of_this_one(error, is_so):
    assert is_from_elsewhere(error) is is_so

"""Oracle: what torchrun, srun and mpirun set, from their documentation; real processes above and beside ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_bench.errors import ConfigError
from lora_bench.launchers import ancestor_commands, check_launcher, forget_launcher, forgotten_note

ROOT = Path(__file__).resolve().parents[1]
OF_TORCHRUN = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29511",
    "TORCHELASTIC_RUN_ID": "none",
}
OWN = {"PATH": "/bin", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "ACCELERATE_LOG_LEVEL": "info", "RANKING": "1"}
TORCHRUN = ["/usr/bin/python", "/usr/bin/torchrun", "--nproc-per-node=2", "run.py", ""]


def test_what_a_launcher_left_is_forgotten_and_the_rest_is_kept():
    left = {**OF_TORCHRUN, "PMI_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "ACCELERATE_USE_FSDP": "true"}
    environment = {**OWN, **left}
    assert forget_launcher(environment) == sorted(left)
    assert environment == OWN
    assert forget_launcher(environment) == []


def test_the_note_names_some_and_counts_the_others():
    note = forgotten_note(sorted(OF_TORCHRUN))
    assert "LOCAL_RANK, MASTER_ADDR, MASTER_PORT, RANK, TORCHELASTIC_RUN_ID, WORLD_SIZE (left over" in note
    assert "and 2 more" in forgotten_note([*sorted(OF_TORCHRUN), "X", "Y"])


@pytest.mark.parametrize(
    ("environment", "above", "says"),
    [
        (OF_TORCHRUN, [["bash", "go.sh"], TORCHRUN], "torchrun: started 2 copies"),
        (OF_TORCHRUN, [["python", "-m", "torch.distributed.run", "x"]], "torchrun: started 2 copies"),
        (OF_TORCHRUN, [["python", "/bin/accelerate", "launch", "run.py"]], "accelerate launch: started 2 copies"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, [["slurmstepd: [7.0]"]], "srun: started 4 copies"),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, [["/opt/mpi/bin/orted", "--hnp"]], "mpirun: started 3 copies"),
        ({"PMI_SIZE": "3"}, [["hydra_pmi_proxy"]], "mpirun: started 3 copies"),
    ],
)
def test_several_copies_are_refused_with_the_command_that_is_right(environment, above, says):
    with pytest.raises(ConfigError) as caught:
        check_launcher(environment, command=["run.py", "lora.r=4"], ancestors=above)
    assert says in str(caught.value)
    count = says.split()[-2]
    assert f"python run.py lora.r=4 processes.count={count} (on several machines" in str(caught.value)


def test_a_sweep_is_told_to_start_once_and_processes_are_not_added_to_those_that_are_asked():
    for words, right in (
        (["run.py", "-m", "lora.r=1,2"], "a study's runs itself; start it once: python run.py -m lora.r=1,2 (on"),
        (["run.py", "processes=ddp"], "start it once: python run.py processes=ddp (on"),
    ):
        with pytest.raises(ConfigError) as caught:
            check_launcher(OF_TORCHRUN, command=words, ancestors=[TORCHRUN])
        assert right in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "above"),
    [
        (OF_TORCHRUN, [["bash"], ["sshd"]]),
        ({**OF_TORCHRUN, "WORLD_SIZE": "1"}, [TORCHRUN]),
        ({**OF_TORCHRUN, "WORLD_SIZE": "many"}, [TORCHRUN]),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, [["slurmstepd: [7.batch]"]]),
        ({"SLURM_STEP_NUM_TASKS": "4"}, [TORCHRUN]),
        ({}, [TORCHRUN]),
    ],
    ids=["left over", "one copy", "no number", "batch script", "another launcher's", "nothing"],
)
def test_one_copy_is_no_reason_to_refuse(environment, above):
    check_launcher(environment, command=["run.py"], ancestors=above)


def test_the_processes_above_are_read_from_the_kernel():
    (nearest, *_) = ancestor_commands()
    assert nearest == Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")


def test_run_py_under_a_real_parent_that_looks_like_a_step_of_slurm_is_refused_before_torch():
    script = f"exec -a 'slurmstepd: [7.0]' bash -c '{sys.executable} -X importtime run.py lora.r=4; exit $?'"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLURM_STEP_NUM_TASKS": "2"}
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "srun: started 2 copies of this command" in done.stderr
    assert "Traceback" not in done.stderr
    assert " torch\n" not in done.stderr


@pytest.mark.parametrize("left", [OF_TORCHRUN, {"WORLD_SIZE": "2"}, {"PMI_SIZE": "2", "PMI_RANK": "1"}])
def test_a_single_process_joins_no_group_that_the_environment_describes(monkeypatch, left):
    from accelerate.state import AcceleratorState

    from lora_bench.training.backends import SingleBackend

    AcceleratorState._reset_state(reset_partial_state=True)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    # With the variables Accelerate waits here for the second process.
    backend = SingleBackend()
    assert backend.num_processes == 1
    assert not set(left) & set(os.environ)

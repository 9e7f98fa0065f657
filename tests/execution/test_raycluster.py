"""What is said before Ray is asked. Oracles: sockets of our own, the texts a user reads."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from lora_bench.config.executor import RayExecutorConfig
from lora_bench.errors import ConfigError
from lora_bench.execution import check_executor, raycluster
from lora_bench.execution.raycluster import Node, check_request, offers


def test_without_the_package_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"executor: ray, but .* not installed; pip install 'lora-bench\[ray\]'"):
        check_executor(RayExecutorConfig(), tmp_path)


@pytest.fixture
def _no_cluster(monkeypatch, tmp_path):
    """Ray is there, and is not to be asked."""
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(raycluster, "CURRENT_CLUSTER", tmp_path / "current")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was asked"))


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.usefixtures("_no_cluster")
def test_a_head_that_does_not_answer_is_told_at_once(tmp_path, monkeypatch):
    address = f"127.0.0.1:{closed_port()}"
    said = r"executor.address: '.*': no Ray cluster to join \(.*refused\); start one with `ray start --head`, or give"
    with pytest.raises(ConfigError, match=said):
        check_request(RayExecutorConfig(address=address))
    (tmp_path / "current").write_text(f"{address}\n")
    with pytest.raises(ConfigError, match=said):
        check_request(RayExecutorConfig())
    (tmp_path / "current").unlink()
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=said):
        check_request(RayExecutorConfig())


@pytest.mark.usefixtures("_no_cluster")
@pytest.mark.parametrize(
    ("address", "said"), [("ray://head:10001", "address of Ray Client"), ("head", "head is no HOST:PORT")]
)
def test_an_address_of_another_kind_is_refused(address, said):
    with pytest.raises(ConfigError, match=said):
        check_request(RayExecutorConfig(address=address))


@pytest.mark.usefixtures("_no_cluster")
def test_a_request_for_nothing_is_refused_with_all_its_faults():
    with pytest.raises(ConfigError) as caught:
        check_request(RayExecutorConfig(cpus_per_task=0, gpus_per_node=-1, mem_gb=0))
    assert [str(fault) for fault in caught.value.faults] == [
        "executor.cpus_per_task: 0 is below 1",
        "executor.gpus_per_node: -1 is below 0",
        "executor.mem_gb: 0 is below 0.1",
    ]


@pytest.mark.parametrize(
    ("asked", "carried"),
    [({}, True), ({"cpus_per_task": 17}, False), ({"gpus_per_node": 4}, True), ({"mem_gb": 65}, False)],
)
def test_one_node_must_have_all_of_a_request(asked, carried):
    assert Node(16, 4, 64).carries(RayExecutorConfig(**asked)) is carried


def test_equal_nodes_are_counted():
    assert offers([Node(16, 4, 64), Node(2, 0, 8), Node(16, 4, 64)]) == (
        "2 nodes of 16 CPUs, 4 GPUs, 64.0 GiB; 1 node of 2 CPUs, 8.0 GiB"
    )

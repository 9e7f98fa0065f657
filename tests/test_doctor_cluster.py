"""What is said of clusters where there is none; `tests/cluster` asks real ones. Oracle: the texts a user reads."""

from __future__ import annotations

import importlib.util

import pytest

from lora_bench.doctor_cluster import examine_cluster
from lora_bench.errors import ConfigError, Fault
from lora_bench.execution import cluster, raycluster


@pytest.fixture
def _no_cluster(monkeypatch, tmp_path):
    """Neither a Slurm nor a Ray answers, whatever this machine has."""

    def refuse(address):
        raise ConfigError([Fault("executor.address", f"'{address}': no Ray cluster to join")])

    monkeypatch.setattr(cluster, "has_slurm", lambda: False)
    monkeypatch.setattr(cluster, "partitions", list)
    monkeypatch.setattr(raycluster, "connect", refuse)


@pytest.mark.usefixtures("_no_cluster")
def test_without_words_both_are_told_of(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    rows = examine_cluster([], root=tmp_path)
    assert [(row.name, row.status) for row in rows] == [("a run", "fault"), ("Ray", "absent")]
    assert "no sbatch on this machine" in rows[0].advice
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert [row.name for row in examine_cluster([], root=tmp_path)] == ["a run"]


@pytest.mark.usefixtures("_no_cluster")
def test_ray_alone_is_asked_where_the_words_say_so(tmp_path):
    (row,) = examine_cluster(["executor=ray", "executor.gpus_per_node=2"], root=tmp_path)
    assert (row.status, row.answer) == ("fault", "2 CPUs, 2 GPUs, 4 GiB")
    assert "'auto': no Ray cluster to join" in row.advice


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["executor=local"], "executor: local, which is no cluster; give executor=slurm or executor=ray"),
        (["executor=ray", "executor.partition=gpu"], "partition"),
    ],
)
def test_words_that_are_no_request_are_refused(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        examine_cluster(words, root=tmp_path)

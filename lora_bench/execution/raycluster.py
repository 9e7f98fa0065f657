"""The door to Ray: a cluster that is there is connected to, and asked what its nodes have.

None is started from here: Ray listens on every interface of a machine, whatever address it is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import os
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_bench.config.executor import RayExecutorConfig
from lora_bench.errors import ConfigError, Fault
from lora_bench.records import GIB

PROBE_S = 2.0
"""A head that takes no connection within this time is away. Ray itself would try for two minutes."""
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start` notes the address of the last cluster of this machine."""


@dataclass(frozen=True)
class Node:
    """What runs may ask of one node."""

    cpus: float
    gpus: float
    memory_gib: float

    def carries(self, config: RayExecutorConfig) -> bool:
        """Whether it could run one run, were it empty."""
        has_gpus = config.gpus_per_node <= self.gpus
        return has_gpus and config.cpus_per_task <= self.cpus and config.mem_gb <= self.memory_gib

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.cpus:g} CPUs{gpus}, {self.memory_gib:.1f} GiB"


def connect(address: str) -> Any:
    """Makes this process a driver of the cluster, once; returns the module `ray`.

    Raises:
        ConfigError: If Ray is not installed, or no cluster that it goes with answers there.
    """
    if importlib.util.find_spec("ray") is None:
        problem = "ray, but the package is not installed; pip install 'lora-bench[ray]'"
        raise ConfigError([Fault("executor", problem)])
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return ray
    try:
        _probe(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as err:  # Ray's own family is not what it raises here
        said = " ".join(str(err).split())
        advice = "start one with `ray start --head`, or give HOST:PORT of its head on a machine of the cluster"
        raise ConfigError(
            [Fault("executor.address", f"'{address}': no Ray cluster to join ({said}); {advice}")]
        ) from err
    return ray


def nodes(ray: Any) -> list[Node]:
    """What the cluster has, node by node from the largest, without those that have left."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = [Node(has.get("CPU", 0), has.get("GPU", 0), has.get("memory", 0) / GIB) for has in resources]
    # Ray's own order is that of random names.
    return sorted(found, key=dataclasses.astuple, reverse=True)


def offers(found: list[Node]) -> str:
    """The nodes in words, equal ones counted."""
    counted = Counter(map(str, found))
    return "; ".join(f"{count} node{'s' * (count > 1)} of {node}" for node, count in counted.items())


def asked(config: RayExecutorConfig) -> str:
    """What one run asks for, in words."""
    return f"{config.cpus_per_task} CPUs, {config.gpus_per_node} GPUs, {config.mem_gb:g} GiB"


def check_request(config: RayExecutorConfig) -> None:
    """Asks the cluster whether it could ever carry out such a run.

    Raises:
        ConfigError: If it could not, with what it offers; or if there is no cluster.
    """
    if faults := _range_faults(config):
        raise ConfigError(faults)
    found = nodes(connect(config.address))
    if not any(node.carries(config) for node in found):
        problem = f"a run asks for {asked(config)}, and no node has all of it; the cluster offers {offers(found)}"
        raise ConfigError([Fault("executor", problem)])


def _range_faults(config: RayExecutorConfig) -> list[Fault]:
    least = {"cpus_per_task": 1, "gpus_per_node": 0, "mem_gb": 0.1}
    given = {key: getattr(config, key) for key in least}
    return [Fault(f"executor.{key}", f"{given[key]} is below {least[key]}") for key in least if given[key] < least[key]]


def _probe(address: str) -> None:
    """Whether somebody listens there, as far as the address is known before Ray looks for it.

    Raises:
        OSError: If nobody does.
        ValueError: If the address is none that is accepted.
    """
    known = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if not known and address == "auto":
        with contextlib.suppress(OSError):
            known = CURRENT_CLUSTER.read_text().strip()
    if "://" in known:
        raise ValueError(f"{known} is an address of Ray Client, which is not supported")
    host, _, port = known.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    elif known:
        raise ValueError(f"{known} is no HOST:PORT")

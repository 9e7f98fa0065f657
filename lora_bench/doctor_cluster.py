"""What a cluster offers, and whether it would carry out the runs that a command asks for: `doctor --cluster`."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from lora_bench.config.executor import RayExecutorConfig, SlurmExecutorConfig
from lora_bench.config.processes import num_nodes
from lora_bench.config.schema import RunConfig
from lora_bench.doctor import Check, ask
from lora_bench.errors import ConfigError, Fault
from lora_bench.execution import cluster, raycluster

GROUP = "cluster"


def examine_cluster(words: Sequence[str], *, root: Path) -> list[Check]:
    """What Slurm offers, or Ray where the words say `executor=ray`, and whether it would run what they ask for.

    Where nothing is said, a Ray that this machine is a node of is told of as well.

    Raises:
        ConfigError: If the words are no configuration, or name no cluster.
    """
    is_named = any(word.startswith("executor=") for word in words)
    run = _composed(words if is_named else ["executor=slurm", *words])
    config = run.executor
    if isinstance(config, RayExecutorConfig):
        return list(ask(GROUP, lambda: _ray(config)))
    if not isinstance(config, SlurmExecutorConfig):
        raise ConfigError(
            [Fault("executor", f"{config.name}, which is no cluster; give executor=slurm or executor=ray")]
        )
    rows = list(ask(GROUP, lambda: _slurm(config, root, nodes=num_nodes(run.processes))))
    if not words and importlib.util.find_spec("ray") is not None:
        rows += ask(GROUP, _ray_beside)
    return rows


def _slurm(config: SlurmExecutorConfig, root: Path, *, nodes: int) -> Iterator[Check]:
    from lora_bench.execution.slurm import check_request

    for partition in cluster.partitions():
        yield Check(GROUP, f"partition {partition.name}", "ok", str(partition), data=dataclasses.asdict(partition))
    asked = f"{config.cpus_per_task} CPUs, {config.gpus_per_node} GPUs, {config.mem_gb:g} GiB, {config.timeout_min} min"
    asked = f"{asked} on {config.partition or 'the default partition'}" + (f", {nodes} nodes" if nodes > 1 else "")
    try:
        check_request(config, root.absolute() / "slurm", num_nodes=nodes)
    except ConfigError as err:
        yield Check(GROUP, "a run", "fault", asked, "; ".join(map(str, err.faults)))
    else:
        yield Check(GROUP, "a run", "ok", f"{asked}; Slurm would run it")


def _ray(config: RayExecutorConfig) -> Iterator[Check]:
    try:
        yield from _ray_nodes(config)
        raycluster.check_request(config)
    except ConfigError as err:
        yield Check(GROUP, "a run", "fault", raycluster.asked(config), "; ".join(map(str, err.faults)))
    else:
        yield Check(GROUP, "a run", "ok", f"{raycluster.asked(config)}; Ray would run it")


def _ray_beside() -> Iterator[Check]:
    try:
        yield from _ray_nodes(RayExecutorConfig())
    except ConfigError:
        yield Check(
            GROUP, "Ray", "absent", "this machine is no node of a Ray cluster", "`ray start --head` makes it one"
        )


def _ray_nodes(config: RayExecutorConfig) -> Iterator[Check]:
    found = raycluster.nodes(raycluster.connect(config.address))
    data = {"nodes": [dataclasses.asdict(node) for node in found]}
    yield Check(GROUP, "Ray", "ok", raycluster.offers(found), data=data)


def _composed(words: Sequence[str]) -> RunConfig:
    from lora_bench.config.overrides import compose_config, understood
    from lora_bench.config.resolve import resolve

    return resolve(compose_config(understood(words)))

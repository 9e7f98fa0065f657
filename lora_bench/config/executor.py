"""Where the runs of a study are started: the group `executor`. Infrastructure, no part of a run's digest."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class ExecutorConfig:
    """Where the runs of a grid are started. Infrastructure: not part of the digest."""

    name: str = "local"
    threads_per_run: int | None = None
    """CPU threads of one run; null shares the cores that are free evenly among the slots."""
    hang_min: float | None = 30.0
    """Minutes without a new line in `metrics.jsonl` or `status.json` after which a run is ended and retried; null
    waits for ever. Longer than the longest evaluation."""
    max_retries: int = 2
    """Times that a run which died without a result is started again, from its last checkpoint; 0 never does."""


@dataclass(kw_only=True)
class SlurmExecutorConfig(ExecutorConfig):
    """Runs as jobs of a Slurm cluster; `study.n_jobs` of them are in its queue or running at a time."""

    name: str = "slurm"
    partition: str | None = None
    """Where jobs are sent; null is the cluster's default."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features that a node must have."""
    cpus_per_task: int = 2
    gpus_per_node: int = 0
    mem_gb: float = 4.0
    """GiB of memory of a job."""
    timeout_min: int = 60
    """Time limit of a job; a run that is not done by then checkpoints and is queued again."""
    signal_delay_s: int = 90
    """Seconds before the time limit at which a job is told to checkpoint; longer than a step and a checkpoint."""
    trials_per_job: int = 1
    """Runs that share one allocation, one after the other; for short runs."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the run, `module load cuda` say."""
    submit_controller: bool = False
    """Whether the controller is a job itself; the command then returns at once."""


@dataclass(kw_only=True)
class RayExecutorConfig(ExecutorConfig):
    """Runs as tasks of a Ray cluster that is there; `study.n_jobs` of them are with it at a time."""

    name: str = "ray"
    address: str = "auto"
    """HOST:PORT of the cluster's head; `auto` is RAY_ADDRESS, or else the cluster that this machine is a node of."""
    cpus_per_task: int = 2
    gpus_per_node: int = 0
    mem_gb: float = 4.0
    """GiB of memory of a run."""

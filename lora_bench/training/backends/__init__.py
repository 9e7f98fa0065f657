"""How the processes of a run share its work, by the name in `conf/processes/`."""

from __future__ import annotations

from lora_bench.config.processes import ProcessesConfig, ZeroConfig
from lora_bench.training.backends.base import Backend
from lora_bench.training.backends.single import SingleBackend

__all__ = ["Backend", "SingleBackend", "make_backend"]


def make_backend(config: ProcessesConfig | None) -> Backend:
    """This process's backend; those of several processes want their group joined first."""
    if config is None:
        return SingleBackend()
    if config.name == "ddp":
        from lora_bench.training.backends.ddp import DdpBackend

        return DdpBackend()
    if isinstance(config, ZeroConfig):
        from lora_bench.training.backends.zero import ZeroBackend

        return ZeroBackend(config)
    from lora_bench.training.backends.fsdp import FsdpBackend

    return FsdpBackend()

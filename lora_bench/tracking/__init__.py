"""Trackers project run directories. Another one is a file here, a YAML in conf/tracking/ and a line in `TRACKERS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lora_bench.config.schema import TrackingConfig
from lora_bench.errors import ConfigError, Fault, suggest
from lora_bench.tracking.base import NullTracker, SyncReport, Tracker
from lora_bench.tracking.tracker import MlflowTracker

__all__ = ["TRACKERS", "MlflowTracker", "NullTracker", "SyncReport", "Tracker", "load_tracker"]

TRACKERS: dict[str, Callable[[TrackingConfig, Path], Tracker]] = {
    "mlflow": lambda config, root: MlflowTracker(root=root, uri=config.uri, experiment=config.experiment),
    "none": lambda config, root: NullTracker(),
}
"""`tracking.name` -> what makes the tracker of a root."""


def load_tracker(config: TrackingConfig, *, root: Path) -> Tracker:
    """The tracker that a configuration names. Opens nothing yet.

    Raises:
        ConfigError: If there is none of this name.
    """
    if config.name not in TRACKERS:
        near = suggest(config.name, TRACKERS)
        raise ConfigError(
            [Fault("tracking", f"unknown tracker '{config.name}'{near}; available: {', '.join(sorted(TRACKERS))}")]
        )
    return TRACKERS[config.name](config, root)

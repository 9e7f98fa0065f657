"""Oracle: the YAML files of conf/tracking/ and the names that a user may give."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.synthetic_runs import rank_grid

from lora_bench.config.schema import TrackingConfig
from lora_bench.errors import ConfigError
from lora_bench.tracking import TRACKERS, MlflowTracker, SyncReport, load_tracker


def test_every_tracker_has_a_configuration():
    folder = Path(__file__).resolve().parents[2] / "conf" / "tracking"
    assert {path.stem for path in folder.glob("*.yaml")} == set(TRACKERS)
    assert len(TRACKERS) >= 2


def test_none_writes_nothing(tmp_path):
    tracker = load_tracker(TrackingConfig(name="none"), root=tmp_path)
    runs = rank_grid(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert tracker.sync(runs, study="ranks", finished=True) == SyncReport()
    assert sorted(tmp_path.rglob("*")) == before


def test_mlflow_takes_uri_and_experiment(tmp_path):
    tracker = load_tracker(TrackingConfig(name="mlflow", uri="http://host:5000", experiment="own"), root=tmp_path)
    assert isinstance(tracker, MlflowTracker)
    assert tracker.uri == "http://host:5000"


def test_an_unknown_tracker_is_a_fault_with_the_nearest_name(tmp_path):
    words = r"unknown tracker 'mlfow' \(did you mean 'mlflow'\?\); available: mlflow"
    with pytest.raises(ConfigError, match=words):
        load_tracker(TrackingConfig(name="mlfow"), root=tmp_path)

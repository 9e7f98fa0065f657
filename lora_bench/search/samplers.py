"""Optuna's samplers by the names of `study.sampler`, seeded so that a restart does not replay."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lora_bench.errors import ConfigError, Fault
from lora_bench.search.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def build_sampler(name: str, *, seed: str, num_asked: int, space: Space, num_slots: int = 1) -> BaseSampler:
    """The sampler for a study that has asked so many trials.

    A sampler with the same seed draws the same numbers after a restart; the number of trials goes into the seed, so
    that it draws others, and still the same in a repetition.

    Raises:
        ConfigError: If a package that it needs is not installed.
    """
    from optuna import samplers

    fixed, mixed = _number_from(seed), _number_from(f"{seed}:{num_asked}")
    build: dict[str, Callable[[], Any]] = {
        # Grouped, the dimensions of each branch of a conditional space are modelled together.
        # Lying about running trials costs a look at each trial; with one slot there is none to lie about.
        "tpe": lambda: samplers.TPESampler(
            seed=mixed, multivariate=True, group=space.is_conditional, constant_liar=num_slots > 1
        ),
        "gp": lambda: samplers.GPSampler(seed=mixed, warn_independent_sampling=False),
        "random": lambda: samplers.RandomSampler(seed=mixed),
        # Its place in the sequence stands in the storage, and the sequence must stay the same.
        "qmc": lambda: samplers.QMCSampler(seed=fixed, scramble=True, warn_independent_sampling=False),
        "cmaes": lambda: samplers.CmaEsSampler(seed=mixed, warn_independent_sampling=False),
        "nsgaii": lambda: samplers.NSGAIISampler(seed=mixed),
    }
    if name == "cmaes":
        _check_package("cmaes", name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler: BaseSampler = build[name]()
    return sampler


def _number_from(text: str) -> int:
    """The same in every process, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _check_package(package: str, sampler: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            [Fault("study.sampler", f"{sampler} needs the package {package}, which is not installed; pip install it")]
        )

"""Registers the schemas with Hydra, so that the YAML files under conf/ can name them in their `defaults`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from lora_bench.config import executor, methods, placement, processes, schema
from lora_bench.config.rates import resolve_rate

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
"""The YAML files; beside the package in a checkout."""

SWEEPS_DIR = CONF_DIR.parent / "sweeps"
"""The study files; `+sweeps=rank` names `sweeps/rank.yaml`. Read by `lora_bench.search`, not composed by Hydra."""

SCHEMAS: dict[str, dict[str, type]] = {
    "model": {"base_model": schema.ModelConfig},
    "task": {
        "base_tweet_sentiment": schema.TweetSentimentConfig,
        "base_bbc_topic": schema.BbcTopicConfig,
        "base_bbc_headline": schema.BbcHeadlineConfig,
        "base_arithmetic": schema.ArithmeticConfig,
        "base_files": schema.FilesConfig,
    },
    "method": {
        "base_full": methods.FullMethodConfig,
        "base_bitfit": methods.BitFitMethodConfig,
        "base_top_layers": methods.TopLayersMethodConfig,
        "base_lora": methods.LoraMethodConfig,
        "base_rslora": methods.RsLoraMethodConfig,
        "base_lora_plus": methods.LoraPlusMethodConfig,
        "base_lora_fa": methods.LoraFaMethodConfig,
        "base_dora": methods.DoraMethodConfig,
        "base_pissa": methods.PissaMethodConfig,
        "base_olora": methods.OloraMethodConfig,
        "base_eva": methods.EvaMethodConfig,
        "base_adalora": methods.AdaLoraMethodConfig,
        "base_qlora": methods.QloraMethodConfig,
        "base_loftq": methods.LoftqMethodConfig,
        "base_vera": methods.VeraMethodConfig,
        "base_ia3": methods.Ia3MethodConfig,
        "base_adapter_h": methods.HoulsbyMethodConfig,
        "base_adapter_l": methods.LinMethodConfig,
        "base_adapter_p": methods.PfeifferMethodConfig,
        "base_adapter_d": methods.AdapterDropMethodConfig,
        "base_prefix_embed": methods.PrefixEmbedMethodConfig,
        "base_prefix_layer": methods.PrefixLayerMethodConfig,
        "base_lora_prefix_embed": methods.LoraPrefixEmbedMethodConfig,
        "base_lora_prefix_layer": methods.LoraPrefixLayerMethodConfig,
    },
    "placement": {"base_placement": placement.PlacementConfig},
    "lora": {"base_lora": schema.LoraConfig},
    "training": {"base_training": schema.TrainingConfig},
    "processes": {
        "base_single": processes.SingleProcessConfig,
        "base_ddp": processes.DdpConfig,
        "base_fsdp": processes.FsdpConfig,
        "base_zero1": processes.Zero1Config,
        "base_zero2": processes.Zero2Config,
        "base_zero3": processes.Zero3Config,
        "base_zero3_offload": processes.Zero3OffloadConfig,
    },
    "executor": {
        "base_executor": executor.ExecutorConfig,
        "base_slurm": executor.SlurmExecutorConfig,
        "base_ray": executor.RayExecutorConfig,
    },
    "tracking": {"base_tracking": schema.TrackingConfig},
    "paths": {"base_paths": schema.PathsConfig},
    "study": {"base_study": schema.StudyConfig},
}
"""Group -> name in `defaults` -> schema."""


_further_dirs: list[Path] = []


def use_config_dirs(folders: Sequence[Path]) -> None:
    """Have the choices in these folders stand beside those of `conf/`, for this process: `--config-dir`."""
    _further_dirs[:] = folders


def config_dirs() -> tuple[Path, ...]:
    """Return the folders that hold choices: `conf/`, and those of the command line."""
    return (CONF_DIR, *_further_dirs)


def group_names() -> list[str]:
    """The groups that users choose from."""
    return sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name != "hydra")


def group_choices(group: str) -> list[str]:
    """The choices of a group."""
    return sorted({path.stem for folder in config_dirs() for path in (folder / group).glob("*.yaml")})


def study_files() -> list[str]:
    """The names that `+sweeps=` accepts, those in folders with their folder."""
    return sorted(str(path.relative_to(SWEEPS_DIR).with_suffix("")) for path in SWEEPS_DIR.rglob("*.yaml"))


@functools.cache
def register_schemas() -> None:
    """Tell Hydra of every schema, once a process: it is a tenth of a second, and every composition asks for it."""
    # For `--help`: Hydra's own list would show the schemas between the choices.
    OmegaConf.register_new_resolver("choices", _list_choices, replace=True)
    OmegaConf.register_new_resolver("default_rate", resolve_rate, replace=True)
    store = ConfigStore.instance()
    store.store(name="base_run", node=schema.RunConfig, provider="lora_bench")
    for group, members in SCHEMAS.items():
        for name, node in members.items():
            store.store(group=group, name=name, node=node, provider="lora_bench")


def _list_choices() -> str:
    return "\n".join(f"{group}: {', '.join(choices)}" for group in group_names() if (choices := group_choices(group)))

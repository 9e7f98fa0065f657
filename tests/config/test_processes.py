"""The group `processes`: what is refused, and what is in a digest. Oracle: what DESIGN says a run is."""

from __future__ import annotations

import pytest

from lora_bench.config.overrides import compose_config
from lora_bench.config.resolve import config_digest, resolve
from lora_bench.errors import ConfigError
from lora_bench.models import method_faults, read_architecture


def digest(*words: str) -> str:
    return config_digest(resolve(compose_config(list(words))))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["processes.count=0"], "processes.count: 0 is below 1; it is the number of processes in all"),
        (["processes.count=3"], "processes.count: 3 does not divide training.batch_size 32; use one of 1, 2, 4, 8"),
        (["processes.nodes=2"], "processes.nodes: 2 machines need executor=slurm, which gives them"),
        (["processes.nodes=3", "processes.count=4"], "processes.count: 4 cannot be spread evenly over 3 nodes; use 6"),
        (["processes.timeout_s=0"], "processes.timeout_s: 0 is below 1"),
        (["processes.max_restarts=-1"], "processes.max_restarts: -1 is below 0; 0 starts no group again"),
        (
            ["processes.count=4", "training.micro_batch_size=16"],
            "training.micro_batch_size: 16 does not divide the 8 items of each of 4 processes",
        ),
    ],
)
def test_what_cannot_run_is_refused(words, said):
    with pytest.raises(ConfigError) as told:
        resolve(compose_config(["processes=ddp", *words]))
    assert said in str(told.value)


def test_processes_are_part_of_a_run_but_not_how_they_are_kept_going():
    assert digest("processes=single") == digest()
    names = ("ddp", "fsdp", "zero1", "zero2", "zero3", "zero3_offload")
    assert len({digest(), *(digest(f"processes={name}") for name in names)}) == len(names) + 1
    assert digest("processes=ddp", "processes.count=4") != digest("processes=ddp")
    same = ["processes.timeout_s=5", "processes.max_restarts=7", "processes.resume_from=somewhere"]
    assert digest("processes=ddp", *same) == digest("processes=ddp")


def test_adalora_is_refused_where_gradients_are_split():
    for name, is_refused in {"ddp": False, "fsdp": True, "zero1": True, "zero3": True}.items():
        config = resolve(compose_config(["model=tiny", "method=adalora", f"processes={name}"]))
        faults = [str(fault) for fault in method_faults(config, read_architecture(config.model))]
        assert any("adalora looks at all gradients" in fault for fault in faults) is is_refused


def test_an_earlier_run_must_differ_in_its_processes_alone(tmp_path):
    from lora_bench.config.resolve import to_yaml
    from lora_bench.preflight import check_run

    words = ["model=tiny", "processes=ddp", f"paths.root={tmp_path}"]
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    asked = [*words, "processes.count=4", f"processes.resume_from={earlier}"]
    with pytest.raises(ConfigError, match="is no run directory"):
        check_run(resolve(compose_config(asked)))
    (earlier / "config.yaml").write_text(to_yaml(resolve(compose_config([*words, "seed=1"]))))
    with pytest.raises(ConfigError, match="differs in seed; only `processes` may differ"):
        check_run(resolve(compose_config(asked)))
    (earlier / "config.yaml").write_text(to_yaml(resolve(compose_config(words))))
    with pytest.raises(ConfigError, match="has no checkpoint: it is finished"):
        check_run(resolve(compose_config(asked)))
    (earlier / "checkpoints" / "step-00000010").mkdir(parents=True)
    check_run(resolve(compose_config(asked)))


def test_an_earlier_run_may_have_found_the_same_data_elsewhere(tmp_path):
    from lora_bench.config.resolve import to_yaml
    from lora_bench.preflight import check_run

    for folder in ("then", "now"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text("text,label\na,x\nb,y\nc,x\nd,y\n")
    words = ["model=tiny", "processes=ddp", "task=files", f"paths.root={tmp_path}"]
    files = {name: [f"task.{split}={tmp_path}/{name}/a.csv" for split in ("train", "eval")] for name in ("then", "now")}
    earlier = tmp_path / "earlier"
    (earlier / "checkpoints" / "step-00000010").mkdir(parents=True)
    (earlier / "config.yaml").write_text(to_yaml(resolve(compose_config([*words, *files["then"]]))))
    asked = [*words, *files["now"], "processes.count=4", f"processes.resume_from={earlier}"]
    check_run(resolve(compose_config(asked)))
    (tmp_path / "now" / "a.csv").write_text("text,label\na,x\nb,y\nc,x\ne,y\n")
    with pytest.raises(ConfigError, match="differs in task; only `processes` may differ"):
        check_run(resolve(compose_config(asked)))

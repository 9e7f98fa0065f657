"""Oracle: each run alone on a base of its own."""

from __future__ import annotations

import pytest
import torch

from lora_bench.artifacts.checks import check_switchable
from lora_bench.artifacts.network import load_adapted, load_base, logits, probe_batch
from lora_bench.artifacts.switch import load_side_by_side, switch_runs
from lora_bench.artifacts.trained import open_run
from lora_bench.errors import ArtifactError
from lora_bench.manifest import write_manifest


@pytest.mark.parametrize(
    "names", [("bert_all", "bert_qv"), ("llama_all", "llama_qv"), ("llama_qv", "llama_embed"), ("t5_all", "t5_qv")]
)
def test_an_adapter_that_is_switched_to_is_the_run_alone(trained, names):
    runs = [trained(name) for name in names]
    net, load_ms = load_side_by_side(runs, load_base(runs[0]))
    batch = probe_batch(net)
    alone = [logits(load_adapted(run).net.eval(), batch) for run in runs]
    assert not torch.equal(*alone)
    for index in (0, 1, 0):
        net.set_adapter(f"run{index}")
        assert torch.equal(logits(net, batch), alone[index])
    assert len(load_ms) == 2


def test_a_matrix_that_one_run_splits_serves_the_other(trained):
    runs = [trained("gpt2_mlp"), trained("gpt2_qv")]
    net, _ = load_side_by_side(runs, load_base(runs[0]))
    batch = probe_batch(net)
    for index, run in enumerate(runs):
        net.set_adapter(f"run{index}")
        alone = logits(load_adapted(run).net, batch)
        # Three slices in place of one product, for the run that splits nothing: another order of additions.
        assert torch.allclose(logits(net, batch), alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


def test_every_prompt_is_answered_by_every_run(trained):
    runs = [trained("bert_all"), trained("bert_qv")]
    report = switch_runs(runs, ["one text", "another text, a longer one"], num_rounds=6)
    assert [adapter.name for adapter in report.adapters] == [run.name for run in runs]
    for adapter in report.adapters:
        assert len(adapter.answers) == 2
        assert all(answer.split()[0] in runs[0].labels for answer in adapter.answers)
        assert adapter.switch.num_rounds == 6
        assert 0 < adapter.switch.median_ms < report.base_load_ms
    assert report.base_answers == []


def test_a_language_model_answers_with_and_without_adapter(trained):
    report = switch_runs([trained("llama_all"), trained("llama_qv")], ["12 + 3 ="], num_rounds=6)
    assert [len(answers) for answers in (report.base_answers, *(own.answers for own in report.adapters))] == [1, 1, 1]


def test_what_cannot_share_a_base_is_refused(trained):
    with pytest.raises(ArtifactError, match="what method=full trained is no PEFT adapter, or not that alone"):
        check_switchable([trained("bert_all"), trained("bert_full")])
    with pytest.raises(ArtifactError, match="stand on different bases"):
        check_switchable([trained("bert_all"), trained("gpt2_qv")])


def test_adapters_of_two_types_are_refused(trained, copy_of):
    other = copy_of("bert_qv")
    path = other.weights / "adapter_config.json"
    path.write_text(path.read_text().replace('"LORA"', '"IA3"'))
    write_manifest(other.weights)
    with pytest.raises(ArtifactError, match=r"adapters of two types \(LORA, IA3\) are not exchanged in one network"):
        check_switchable([trained("bert_all"), open_run(other)])


def test_an_adapter_that_changes_the_base_is_found(trained, monkeypatch):
    from peft import PeftModel

    real = PeftModel.from_pretrained

    def load_and_change(base, *words, **named):
        with torch.no_grad():
            base.get_input_embeddings().weight.mul_(1.01)
        return real(base, *words, **named)

    monkeypatch.setattr(PeftModel, "from_pretrained", load_and_change)
    runs = [trained("bert_all"), trained("bert_qv")]
    with pytest.raises(
        ArtifactError, match="method=lora changes the weights of the base, so its adapters cannot share"
    ):
        load_side_by_side(runs, load_base(runs[0]))

"""Oracles: the weight files themselves, read with safetensors; the counts in the models' descriptions."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, BertModel

from lora_bench.config.schema import Attention, Source, TaskKind
from lora_bench.errors import ConfigError, ModelError
from lora_bench.models.catalog import find_package_file
from lora_bench.models.heads import new_parameter_names
from lora_bench.models.load import load_tokenizer


@pytest.fixture
def saved(tmp_path, tiny_architecture):
    """Saves a tiny network as a folder that `model.source=folder` takes."""

    def save(model_type, auto):
        numbers = tiny_architecture(model_type)
        config = AutoConfig.for_model(**numbers)
        torch.manual_seed(3)
        net = auto.from_config(config) if hasattr(auto, "from_config") else auto(config)
        folder = tmp_path / model_type
        net.save_pretrained(folder)
        (folder / "tokenizer.json").write_text("{}")
        return folder

    return save


@pytest.fixture
def from_folder(model_config):
    """A configuration that reads a folder."""
    # eager, because not every family that a folder may hold has sdpa
    return lambda folder: model_config("tiny", source=Source.folder, folder=str(folder), attention=Attention.eager)


def test_minilm_has_its_parameters_and_the_bytes_of_its_file(model_config, load):
    model = model_config("minilm")
    net = load(model)
    file = load_file(find_package_file(model.package, model.package_file) / "model.safetensors")
    base = net.bert.state_dict()
    assert sum(parameter.numel() for parameter in net.bert.parameters()) == 22_713_216
    compared = [key for key in file if key in base]
    assert len(compared) == 103
    assert all(torch.equal(base[key], file[key]) and base[key].dtype == torch.float32 for key in compared)
    assert set(file) - set(base) <= {"embeddings.position_ids"}
    assert new_parameter_names(net) == ["classifier.weight", "classifier.bias"]
    assert not net.training


def test_bf16_weights_are_the_rounded_ones(model_config, load):
    wide, narrow = (load(model_config("minilm"), dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert all(torch.equal(value.bfloat16(), narrow.get_parameter(name)) for name, value in wide.named_parameters())


def test_nothing_is_printed(model_config, load, capfd, tmp_path):
    load(model_config("minilm"))
    load_tokenizer(model_config("minilm"), cache=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_minilm_tokenizer_is_its_own(model_config, tmp_path):
    tokenizer = load_tokenizer(model_config("minilm"), cache=tmp_path)
    assert tokenizer("Hello world").input_ids == [101, 7592, 2088, 102]
    assert tokenizer.pad_token_id == 0


def test_smollm2_speaks_and_equals_its_gguf(model_config, load, cache_dir):
    model = model_config("smollm2-135m")
    tokenizer = load_tokenizer(model, cache=cache_dir)
    net = load(model, TaskKind.generation, cache=cache_dir, pad_token_id=tokenizer.pad_token_id)
    assert sum(parameter.numel() for parameter in net.parameters()) == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(net.generate(ids, max_new_tokens=1, do_sample=False)[0, -1]) == " Paris"
    numbers = net.config.to_dict()
    for key, value in model.architecture.items():
        assert numbers[key] == pytest.approx(value) if isinstance(value, float) else numbers[key] == value, key


@pytest.mark.slow
def test_the_conversion_equals_a_direct_read_of_the_gguf(model_config, load, cache_dir):
    model = model_config("smollm2-135m")
    path = find_package_file(model.package, model.package_file)
    direct = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).state_dict()
    ours = load(model, TaskKind.generation, cache=cache_dir).state_dict()
    assert list(ours) == list(direct)
    assert all(torch.equal(ours[key], direct[key]) for key in direct)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    text = "12 + 345 = 357\n  def f(x): return 'naïve'"
    assert load_tokenizer(model, cache=cache_dir)(text).input_ids == tokenizer(text).input_ids


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_weights_are_the_same_every_time_and_in_every_dtype(dtype, model_type, tiny_net):
    wide, other = tiny_net(model_type), tiny_net(model_type, seed=7, dtype=dtype)
    heads = set(new_parameter_names(wide))
    base = [name for name, _ in wide.named_parameters() if name not in heads]
    assert all(torch.equal(wide.get_parameter(name).to(dtype), other.get_parameter(name)) for name in base)
    assert all(parameter.dtype == dtype for parameter in other.parameters())
    assert max(wide.get_parameter(name).std().item() for name in base if wide.get_parameter(name).ndim > 1) > 0.01


def test_random_source_works_for_a_model_of_the_hub(model_config, load, tmp_path):
    model = model_config("gpt2", source=Source.random)
    model.architecture |= {"n_embd": 32, "n_layer": 1, "n_head": 2}
    net = load(model, TaskKind.generation)
    assert net.config.vocab_size == 50_257
    assert net.config.pad_token_id == net.generation_config.pad_token_id == 0
    ids = torch.tensor([[5, 6, 7]])
    assert net.generate(ids, max_new_tokens=2, do_sample=False, eos_token_id=2).shape[1] > 3


def test_random_decoder_with_the_tokenizer_of_bert_can_end(model_config, tmp_path):
    tokenizer = load_tokenizer(model_config("llama-2-7b", source=Source.random), cache=tmp_path)
    assert tokenizer.eos_token == "[SEP]"
    assert len(tokenizer) <= 32_000


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_dropout_is_set(dropout, model_type, tiny_net, monkeypatch):
    net = tiny_net(model_type, dropout=dropout).train()
    drop, used = nn.functional.dropout, set()

    def spy(input, p=0.5, training=True, inplace=False):
        used.add(p)
        return drop(input, p, training, inplace)

    monkeypatch.setattr(nn.functional, "dropout", spy)
    ids = torch.randint(3, 40, (2, 8), generator=torch.Generator().manual_seed(1))
    is_random = not torch.equal(net(ids).logits, net(ids).logits)
    assert used == {dropout}
    assert is_random == (dropout > 0)


def test_dropout_none_keeps_the_configuration(tiny_net):
    assert tiny_net("bert").config.hidden_dropout_prob == 0.1
    assert tiny_net("llama").config.attention_dropout == 0.0


def test_padding_does_not_become_an_embedding_row_that_never_learns(tiny_architecture, load, model_config):
    model = model_config("tiny-llama", architecture=tiny_architecture("llama"))
    del model.architecture["pad_token_id"]
    net = load(model, TaskKind.generation, pad_token_id=2)
    assert net.config.pad_token_id == 2
    assert net.model.embed_tokens.padding_idx is None


def test_an_encoder_cannot_generate(model_config, load):
    with pytest.raises(
        ModelError, match=r"'tiny' \(bert\) is an encoder and cannot generate; .*\(gemma, .*llama.*model=smollm2"
    ):
        load(model_config("tiny"), TaskKind.generation)


def test_an_unknown_architecture_is_named(model_config, load):
    with pytest.raises(ConfigError, match=r"model.architecture.model_type: 'brt' is unknown to transformers"):
        load(model_config("tiny", architecture={"model_type": "brt"}))


@pytest.mark.parametrize(
    ("saved_type", "auto"),
    [
        ("bert", BertModel),
        ("roberta", AutoModelForMaskedLM),
        ("deberta-v2", AutoModelForMaskedLM),
        ("gpt2", AutoModelForCausalLM),
        ("llama", AutoModelForCausalLM),
    ],
    ids=str,
)
def test_a_checkpoint_with_another_head_gives_its_base(saved_type, auto, saved, from_folder, load):
    folder = saved(saved_type, auto)
    net = load(from_folder(folder), seed=1)
    file = load_file(folder / "model.safetensors")
    heads = set(new_parameter_names(net))
    prefix = f"{net.base_model_prefix}."
    base = {name: value for name, value in net.named_parameters() if name not in heads}
    matched = {name: file.get(name, file.get(name.removeprefix(prefix))) for name in base}
    assert matched
    assert all(torch.equal(matched[name], base[name]) for name in base)


def test_a_new_head_is_the_same_for_random_and_read_weights(saved, from_folder, load, tiny_net):
    read = load(from_folder(saved("bert", BertModel)), seed=4)
    built = tiny_net("bert", seed=4)
    assert all(torch.equal(read.get_parameter(name), built.get_parameter(name)) for name in new_parameter_names(read))


def test_a_trained_head_of_the_right_size_is_kept_and_one_of_another_size_is_new(tmp_path, tiny_net, from_folder, load):
    trained = tiny_net("roberta", seed=9)
    trained.save_pretrained(tmp_path / "trained")
    (tmp_path / "trained" / "tokenizer.json").write_text("{}")
    model = from_folder(tmp_path / "trained")
    names = new_parameter_names(trained)
    kept = load(model, num_labels=3)
    assert all(torch.equal(kept.get_parameter(name), trained.get_parameter(name)) for name in names)
    wider = load(model, num_labels=5)
    assert not torch.equal(wider.classifier.dense.weight, trained.classifier.dense.weight)
    assert wider.classifier.out_proj.weight.shape[0] == 5


def test_constants_of_older_versions_are_no_loss(saved, from_folder, load):
    folder = saved("gpt2", AutoModelForCausalLM)
    tensors = load_file(folder / "model.safetensors")
    tensors |= {"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4), "transformer.h.0.attn.masked_bias": torch.ones(1)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert load(from_folder(folder)).config.model_type == "gpt2"


def test_missing_base_weights_are_refused(saved, from_folder, load):
    folder = saved("bert", BertModel)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks .*bert.encoder.layer.1.output.dense.weight of BertForSequenceClassification"
    ):
        load(from_folder(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"num_hidden_layers": 1},
            r"holds encoder.layer.1.*and 13 more, which BertForSequenceClassification has no place",
        ),
        ({"num_hidden_layers": 3}, r"lacks .*bert.encoder.layer.2"),
        ({"intermediate_size": 64}, r"lacks or has in another shape bert.encoder.layer.0.intermediate.dense"),
    ],
)
def test_a_configuration_of_other_weights_is_refused(change, words, saved, from_folder, load):
    folder = saved("bert", BertModel)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=words):
        load(from_folder(folder))


def test_code_in_a_folder_is_not_run(saved, from_folder, load, tmp_path):
    folder = saved("bert", BertModel)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(from_folder(folder))
    assert not (tmp_path / "ran").exists()


def test_meta_needs_no_weights(model_config, load):
    net = load(model_config("llama-3.1-8b"), TaskKind.generation, device="meta")
    assert sum(parameter.numel() for parameter in net.parameters()) == 8_030_261_248

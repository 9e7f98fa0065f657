"""Oracle: the layout of the hub's cache as its client reads it; the client's own exceptions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors.torch import save_file

from lora_bench.errors import ModelError
from lora_bench.models import hub

HUB_ID = "owner/name"
COMMIT = "0" * 40


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """A whole snapshot of `owner/name` at its main branch in a cache of its own."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def answer(monkeypatch):
    """Lets the hub answer a request with these files, or raise."""

    def set_answer(*names, gated=False, info_error=None, auth_error=None):
        def model_info(self, hub_id, **_):
            if info_error:
                raise info_error
            return SimpleNamespace(gated=gated, siblings=[SimpleNamespace(rfilename=name) for name in names])

        def auth_check(self, hub_id):
            if auth_error:
                raise auth_error

        monkeypatch.setattr(hub.HfApi, "model_info", model_info)
        monkeypatch.setattr(hub.HfApi, "auth_check", auth_check)
        monkeypatch.setattr(hub, "is_offline_mode", lambda: False)

    return set_answer


def error(kind):
    """One of the client's exceptions, which want the response of a server."""
    return kind.__new__(kind)


def test_a_cached_snapshot_is_used_without_a_network(snapshot):
    assert hub.find_cached(HUB_ID, None) == snapshot
    assert hub.find_cached(HUB_ID, COMMIT) == snapshot
    assert hub.find_cached(HUB_ID, "other") is None
    assert hub.download(HUB_ID, None, with_code=False) == snapshot


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_snapshot_that_is_not_whole_is_not_used(name, snapshot):
    (snapshot / name).unlink()
    assert hub.find_cached(HUB_ID, None) is None
    with pytest.raises(ModelError, match=r"'owner/name' is not whole in the cache .*\(HF_HUB_OFFLINE is set\)"):
        hub.download(HUB_ID, None, with_code=False)


def test_only_data_is_asked_for(snapshot, answer, monkeypatch):
    asked = {}

    def fetch(hub_id, *, revision, allow_patterns):
        asked.update(hub_id=hub_id, revision=revision, patterns=allow_patterns)
        return str(snapshot)

    answer("model.safetensors")
    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert hub.download(HUB_ID, "v1", with_code=False) == snapshot
    assert (asked["hub_id"], asked["revision"]) == (HUB_ID, "v1")
    assert {"config.json", "model.safetensors", "model-*-of-*.safetensors"} <= set(asked["patterns"])
    assert not [pattern for pattern in asked["patterns"] if pattern.endswith((".bin", ".pt", ".py", "*"))]
    hub.download(HUB_ID, "v1", with_code=True)
    assert "*.py" in asked["patterns"]


def test_a_repository_of_pickles_is_refused_before_a_download(answer):
    answer("config.json", "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"'owner/name' at revision main has no safetensors.*model.revision=refs/pr/N"):
        hub.check_available(HUB_ID, None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gated": "manual", "auth_error": error(GatedRepoError)}, "is gated: accept its licence .*HF_TOKEN"),
        ({"info_error": error(RepositoryNotFoundError)}, "is not on the hub, or is private; check model.hub_id"),
        ({"info_error": error(RevisionNotFoundError)}, "has no revision 'v9'; set model.revision"),
        ({"info_error": OSError("no route")}, r"the hub cannot be reached \(no route\); set model.source=random"),
        ({"info_error": RuntimeError("proxy")}, r"the hub cannot be reached \(proxy\)"),
    ],
    ids=["gated", "repository", "revision", "network", "proxy"],
)
def test_what_went_wrong_is_explained(given, words, answer):
    answer("model.safetensors", **given)
    with pytest.raises(ModelError, match=words):
        hub.check_available(HUB_ID, "v9")


def test_a_repository_with_safetensors_is_available(answer):
    answer("model.safetensors.index.json", gated="auto")
    hub.check_available(HUB_ID, None)

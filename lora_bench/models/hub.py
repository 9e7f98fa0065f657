"""The one door to the model hub: looks in its cache, downloads, and explains what went wrong.

What is cached is used as it is, without asking whether the hub has something newer: a run repeats offline.
Only configuration, tokenizer and safetensors are fetched, never a pickle.
"""

from __future__ import annotations

import sys
from pathlib import Path

from huggingface_hub import HfApi, constants, is_offline_mode, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from lora_bench.errors import ModelError
from lora_bench.models.folders import INDEX, TOKENIZERS, WEIGHTS, check_folder

CONNECT_TIMEOUT_S = 5.0
_FILES = (
    "config.json",
    "generation_config.json",
    WEIGHTS,
    INDEX,
    "model-*-of-*.safetensors",
    *TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
)
INSTEAD = (
    "set model.source=random (right shapes, for memory and speed), or model.source=folder model.folder=DIR, or HF_HOME "
    "to a cache that has it; model=minilm and model=smollm2-135m need no hub"
)


def find_cached(hub_id: str, revision: str | None) -> Path | None:
    """The cached snapshot, if it has everything that a load needs; touches no network."""
    found = _find_snapshot(hub_id, revision)
    if found is None:
        return None
    try:
        check_folder(found)
    except ModelError:
        return None
    return found


def check_available(hub_id: str, revision: str | None) -> None:
    """Asks the hub whether a download can start: one request, two for gated repositories, no files.

    Raises:
        ModelError: If it cannot; says why and what to do.
    """
    api = HfApi()
    try:
        info = api.model_info(hub_id, revision=revision, timeout=CONNECT_TIMEOUT_S)
        if info.gated:
            api.auth_check(hub_id)
    except Exception as err:
        # The HTTP library beneath changes with the hub's client; whatever it raises, the hub gave no answer.
        raise ModelError(_explain(err, hub_id, revision)) from err
    names = {entry.rfilename for entry in info.siblings or ()}
    if not names & {WEIGHTS, INDEX}:
        raise ModelError(
            f"'{hub_id}' at revision {revision or 'main'} has no safetensors, and a pickle runs code when it is read; "
            f"many repositories keep safetensors under a pull request (model.revision=refs/pr/N); or {INSTEAD}"
        )


def download(hub_id: str, revision: str | None, *, with_code: bool) -> Path:
    """The snapshot folder, fetched where the cache lacks it.

    Args:
        hub_id: Repository, `owner/name`.
        revision: Commit, tag or branch; None is the main branch.
        with_code: Whether the repository's own Python files are fetched too.

    Raises:
        ModelError: If it cannot be fetched or has no safetensors; says why and what to do.
    """
    cached = find_cached(hub_id, revision)
    if cached is not None and (not with_code or any(cached.glob("*.py"))):
        return cached
    check_available(hub_id, revision)
    print(f"Fetching {hub_id} from the model hub into {constants.HF_HUB_CACHE}", file=sys.stderr, flush=True)
    patterns = [*_FILES, "*.py"] if with_code else list(_FILES)
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))
    except OSError as err:
        raise ModelError(_explain(err, hub_id, revision)) from err
    check_folder(folder)
    return folder


def _find_snapshot(hub_id: str, revision: str | None) -> Path | None:
    try:
        config = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def _explain(err: Exception, hub_id: str, revision: str | None) -> str:
    if isinstance(err, GatedRepoError):
        return (
            f"'{hub_id}' is gated: accept its licence at https://huggingface.co/{hub_id}, then set HF_TOKEN to a token "
            f"of that account; or {INSTEAD}"
        )
    if isinstance(err, RevisionNotFoundError):
        return f"'{hub_id}' has no revision '{revision}'; set model.revision to a commit or tag, null is the newest"
    if isinstance(err, (RepositoryNotFoundError, HFValidationError)):
        return f"'{hub_id}' is not on the hub, or is private; check model.hub_id, or set HF_TOKEN for a private one"
    reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else str(err).partition("\n")[0].rstrip(". ")
    state = "is not whole" if _find_snapshot(hub_id, revision) else "is not"
    cache = constants.HF_HUB_CACHE
    return f"'{hub_id}' {state} in the cache {cache} and the hub cannot be reached ({reason}); {INSTEAD}"

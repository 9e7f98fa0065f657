"""Keeps passwords and tokens off the disk and the screen: whatever is written or said goes through here.

A password in a URL works for the process that was given it. What is recorded is the URL without it, which works where
the password comes from the environment: PGPASSWORD or ~/.pgpass for PostgreSQL, MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD for an MLflow server.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence

MARK = "***"
MIN_SECRET_CHARS = 12
"""Shorter values of environment variables are words that may stand in a text for another reason."""

_SECRET_NAMES = re.compile(r"(PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|ACCESS_KEY|CREDENTIALS?)$", re.IGNORECASE)
_KEYS = r"(?:ssl)?(?:password|passwd|pwd)|(?:access_|auth_)?token|api_?key|(?:client_)?secret|signature|sig"
_WEB_PASSWORD = re.compile(r"(https?://[^\s:/@?#'\"]*):[^\s/?#'\"]*@")
# SQLAlchemy takes everything up to the last @ for the password, slashes too.
_PASSWORD = re.compile(r"(?<![\w+.-])((?!https?:)[A-Za-z][\w+.-]*://[^\s:/@'\"]*):(?:(?!://)[^\s'\"])*@")
_WHOLE_WORD = re.compile(r"^(.*?://[^:/@]*):.*@", re.DOTALL)
_PARAMETER = re.compile(rf"([?&])(?:{_KEYS})=[^&#\s'\"]*(&?)", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"\b((?:[A-Z0-9]+_)*(?:PG)?(?:PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|ACCESS_KEY)"
    r"|(?:ssl)?password|passwd|pwd|api_?key|access_token|auth_token|client_secret)=(?!\*\*\*)('[^']*'|\"[^\"]*\"|[^\s'\"&]+)"
)
_HEADER = re.compile(r"(authorization\W{1,4}(?:bearer|basic)\s+)[^\s'\"]+", re.IGNORECASE)
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{20,}"
    r"|dapi[0-9a-f]{32})"
)
_HOOK = re.compile(r"(https://(?:hooks\.slack\.com/services|discord(?:app)?\.com/api/webhooks)/)[^\s'\"]+")


def redact(text: str) -> str:
    """The text as it may be recorded: URLs keep all but their password, tokens become `***`. Repeating is harmless."""
    return _without_others(_without_parameters(_PASSWORD.sub(r"\1@", _WEB_PASSWORD.sub(r"\1@", text))))


def shown(text: str) -> str:
    """The same for a message: `***` stands where the password was."""
    text = _PASSWORD.sub(rf"\1:{MARK}@", _WEB_PASSWORD.sub(rf"\1:{MARK}@", text))
    return _without_others(_PARAMETER.sub(lambda found: found[0].split("=")[0] + f"={MARK}{found[2]}", text))


def holds_secret(text: str) -> bool:
    """Whether something would be taken out of the text."""
    return redact(text) != text


def redact_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, each on its own, so that quotes and spaces end no password early."""
    return [_redact_word(word) for word in words]


def own_command() -> str:
    """What started this process, for a shell, without passwords."""
    return shlex.join(redact_words(sys.orig_argv))


def _redact_word(word: str) -> str:
    if word.count("://") == 1 and any(mark in word for mark in " '\""):
        word = _WHOLE_WORD.sub(r"\1@", word)
    return redact(word)


def _without_parameters(text: str) -> str:
    """URLs without the parameters that are secrets, in as many passes as one URL has of them."""
    while True:
        text, count = _PARAMETER.subn(lambda found: found[1] if found[2] else "", text)
        if not count:
            return text


def _without_others(text: str) -> str:
    text = _HEADER.sub(rf"\1{MARK}", _HOOK.sub(rf"\1{MARK}", _TOKEN.sub(MARK, text)))
    text = _ASSIGNED.sub(rf"\1={MARK}", text)
    for value in _environment_secrets():
        if value in text:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MARK, text)
    return text


def _environment_secrets() -> list[str]:
    return [
        value for name, value in os.environ.items() if len(value) >= MIN_SECRET_CHARS and _SECRET_NAMES.search(name)
    ]

"""Oracle: what stands in a file's place, and that one sentence names it; a process of its own where C code recurses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lora_bench import reading
from lora_bench.errors import RecordError
from lora_bench.records import RunResult, UnknownFieldError, from_json


@pytest.mark.parametrize("mark", ["[", "{a: ", "- ", "? ", "- [", "&a [*a, "])
def test_deep_yaml_is_an_error_and_ends_no_process(mark, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(mark * 100_000)
    code = f"from pathlib import Path; from lora_bench.reading import read_yaml; read_yaml(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "RecordError" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no JSON"),
        (b"null", "holds no JSON object"),
        (b"[" * 200_000, "is nested too deeply"),
        (b"\xff", "is not UTF-8 .byte 0."),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1e999}', "a number is not finite"),
        (b'{"a": 1' + b"0" * 400 + b"}", "more than 63 bits"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
    ],
)
def test_json_that_is_none_is_named(content, problem, tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=f"result.json: .*{problem}.*; move it away"):
        reading.read_json(path)


def test_what_is_no_file_is_named_and_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(FileNotFoundError):
        reading.read_bytes(path)
    path.mkdir()
    with pytest.raises(RecordError, match="is a folder"):
        reading.read_bytes(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(RecordError, match="is no file"):
        reading.read_bytes(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(RecordError, match="Too many levels of symbolic links"):
        reading.read_bytes(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(RecordError, match="is no file"):
        reading.read_bytes(path)


def test_types_of_a_record_are_checked_to_the_last_field():
    with pytest.raises(ValueError, match="no RunResult"):
        from_json(RunResult, [])
    with pytest.raises(UnknownFieldError, match="of_later"):
        from_json(RunResult, {"of_later": 1})
    with pytest.raises(ValueError, match=r"scores\[0\].value: 'x' is not a number"):
        from_json(RunResult, {"scores": [{"value": "x"}]})
    with pytest.raises(ValueError, match="provenance: None is no Provenance"):
        from_json(RunResult, {"provenance": None})
    with pytest.raises(ValueError, match="steps: True is no whole number"):
        from_json(RunResult, {"steps": True})

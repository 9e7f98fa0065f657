"""Oracle: the bytes that a pipe gets, whatever its encoding."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lora_bench.terminal import plain

SAID = "0.98× −0.019 [−0.036, −0.003] größe … 中"


@pytest.mark.parametrize(
    ("encoding", "bytes_out"),
    [
        ("ascii", b"0.98x -0.019 [-0.036, -0.003] groe ... ?"),
        ("latin-1", b"0.98\xd7 -0.019 [-0.036, -0.003] gr\xf6\xdfe ... ?"),
        ("utf-8", SAID.encode()),
    ],
)
def test_a_table_is_printed_in_every_encoding(encoding, bytes_out):
    code = f"from lora_bench.terminal import make_printable; make_printable(); print({SAID!r})"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert done.stdout.strip() == bytes_out.replace(b"groe", b"gro?e")


def test_characters_without_a_likeness_are_marks():
    assert [plain(character) for character in "×é中"] == ["x", "e", "?"]

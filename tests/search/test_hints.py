"""Oracle: what a shell makes of the printed words."""

from __future__ import annotations

import shlex
from pathlib import Path

from lora_bench.search.hints import root_option, study_command


def test_a_command_has_its_root_and_survives_a_shell(tmp_path):
    root = tmp_path / "my runs"
    assert shlex.split(study_command("a b", root)) == ["lora-bench", "study", "a b", "--root", str(root)]
    assert root_option(Path("outputs")) == ""

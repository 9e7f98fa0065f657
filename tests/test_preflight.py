"""Oracle: the sentence that a user should read, for each kind of bad input, all at once and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from lora_bench.errors import ConfigError
from lora_bench.preflight import check_run


def problems(config) -> str:
    with pytest.raises(ConfigError) as caught:
        check_run(config)
    return str(caught.value)


def test_a_good_run_passes(tiny):
    check_run(tiny())
    check_run(tiny("method=full"))


def test_unknown_role_has_the_nearest_name(tiny):
    assert "placement.roles: 'upp' is not a role (did you mean 'up'?)" in problems(tiny("placement.roles=[upp]"))


def test_a_placement_that_matches_nothing_lists_what_exists(tiny):
    text = problems(tiny("placement=gate"))
    assert "placement.roles" in text
    assert "q, k, v, o, up, down" in text


def test_rank_above_the_smallest_side(tiny):
    assert "lora.r: 33 is larger than the smallest adapted side, 32" in problems(tiny("lora.r=33"))


def test_data_and_rank_and_folder_are_said_together(tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    text = problems(tiny("task=files", "task.train=none.csv", "lora.r=99", f"paths.root={tmp_path}/file/deeper"))
    assert text.splitlines()[0] == "4 problems in this run"
    for words in ("task.train", "none.csv", "task.eval", "lora.r: 99", "paths.root", "is a file; give a folder"):
        assert words in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "cannot be written by this user" in problems(tiny(f"paths.root={tmp_path}/closed/root"))


def test_an_encoder_cannot_generate(tiny):
    assert "is an encoder and cannot generate" in problems(tiny("task=arithmetic"))


def test_no_network_and_no_cached_weights_says_what_to_set(tiny):
    text = problems(tiny("model=gpt2-medium"))
    assert "model.source=random" in text
    assert "model.folder" in text


def test_faults_are_found_without_torch_and_soon():
    code = (
        "import sys; sys.argv = ['run.py', 'lora.r=9999', 'model=gpt2'];"
        "import runpy\n"
        "try:\n    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert "lora.r" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.perf_counter() - start < 30

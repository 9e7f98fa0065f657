"""Oracle: `sys.modules` after each refusal: what is wrong with words and folders is found without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lora_bench.artifacts.telling import telling

CODE = """
import sys
from lora_bench import cli
for words in {commands!r}:
    print(cli.main(words), "torch" in sys.modules, flush=True)
"""


def test_refusals_come_before_torch(root, run_of, tmp_path):
    full, adapted, other = (run_of(name).path.name for name in ("bert_full", "bert_all", "gpt2_qv"))
    folder, out = str(tmp_path), str(tmp_path / "out")
    cases = [
        (["import", folder], 2, "is no adapter folder"),
        (["import", str(tmp_path / "nowhere")], 2, "nowhere does not exist; give the folder that lora-bench export"),
        (["export", full, "--out", out], 1, "is no PEFT adapter"),
        (["export", "nothing", "--out", out], 2, "no run 'nothing'"),
        (["merge", adapted, "--out", out, "--dequantise"], 2, "has no base in four bits"),
        (["merge", adapted, "--out", out, "--dtype", "fp8"], 2, "--dtype: no 'fp8'"),
        (["compose", f"{adapted}:1", f"{other}:1", "--out", out], 1, "stand on different bases"),
        (["compose", f"{full}:1", "--adapter", "--with-base", "--out", out], 1, "is no PEFT adapter"),
        (["switch", adapted, full, "--prompt", "x"], 1, "is no PEFT adapter"),
        (["latency", adapted, "--batch", "1", "--length", "9999"], 2, "tokens are more than the 512"),
    ]
    commands = [[words[0], "--root", str(root), *words[1:]] for words, _, _ in cases]
    code = CODE.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [f"{status} False" for _, status, _ in cases], done.stderr
    told = [line for line in done.stderr.splitlines() if "Error: " in line]
    assert len(told) == len(cases)
    for line, (_, _, words) in zip(told, cases, strict=True):
        assert words in line


def test_progress_is_told_on_stderr(capsys):
    with telling("merge") as tell:
        tell("loading the base")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "merge: loading the base\n")


@pytest.mark.parametrize("name", ["checks", "exported", "folder", "lookup", "telling", "trained", "words"])
def test_modules_of_refusals_import_no_torch(name):
    code = f"import sys, lora_bench.artifacts.{name}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

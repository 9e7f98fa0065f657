"""Oracles: exit codes, the words that a user reads, and what is on disk afterwards."""

from __future__ import annotations

import json

import pytest

from lora_bench import cli


@pytest.fixture
def names(run_of):
    """Trains the runs that the commands name; gives their names."""
    return {name: run_of(name).path.name for name in ("bert_all", "bert_qv", "bert_full")}


def call(root, *words):
    return cli.main([words[0], "--root", str(root), *words[1:]])


def test_merge_says_how_to_load_what_it_wrote(root, names, tmp_path, capsys):
    assert call(root, "merge", names["bert_qv"], "--out", str(tmp_path / "m")) == 0
    out = capsys.readouterr().out
    assert f"{names['bert_qv']}: merged, in fp32" in out
    assert f'load it: AutoModelForSequenceClassification.from_pretrained("{tmp_path}/m", dtype="auto")' in out


def test_a_base_in_four_bits_is_made_whole_when_asked(root, run_of, tmp_path, capsys):
    pytest.importorskip("bitsandbytes")
    name = run_of("gpt2_qlora").path.name
    assert call(root, "merge", name, "--out", str(tmp_path / "m"), "--dequantise") == 0
    out = capsys.readouterr().out
    assert f"{name}: merged, in bf16, no longer in four bits, 6.4" in out
    assert "training and rounding to four bits moved them by" in out
    assert call(root, "export", name, "--out", str(tmp_path / "e")) == 1
    assert "rounded by the run itself, and its adapter fits no other; `lora-bench merge" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_every_command_has_data_for_programs(root, names, tmp_path, capsys):
    one, other = names["bert_all"], names["bert_qv"]
    for words, key in (
        (["compose", f"{one}:0.7", f"{other}:-0.3", "--head", one, "--out", str(tmp_path / "c")], "num_shared"),
        (["compose", f"{one}:0.7", f"{other}:0.3", "--adapter", "--with-base", "--out", str(tmp_path / "a")], "rank"),
        (["export", one, "--with-base", "--out", str(tmp_path / "e")], "is_restorable"),
        (["import", str(tmp_path / "e"), "--root", str(tmp_path / "root")], "path"),
        (["switch", one, other, "--prompt", "a text", "--rounds", "6"], "adapters"),
        (["latency", one, "--batch", "1,2", "--length", "4", "--rounds", "6"], "provenance"),
    ):
        assert call(root, *words, "--json") == 0
        assert json.loads(capsys.readouterr().out)[key]


def test_tables_and_what_they_mean(root, names, capsys):
    one, other = names["bert_all"], names["bert_qv"]
    assert call(root, "latency", one, other, "--batch", "1", "--length", "4", "--rounds", "6") == 0
    out, err = capsys.readouterr()
    assert err == "batch 1, 4 tokens: 6 networks in turn\n"
    assert "The same modules and shapes as the base, one by one: lora all r=4, merged; lora qv r=2, merged." in out
    assert "tiny, fp32, " in out
    assert call(root, "switch", one, other, "--prompt", "a text", "--rounds", "6") == 0
    assert f"| {other} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "{bert_full}x", "--out", "{new}"], "RUN: no run '{bert_full}x' in "),
        (["merge", "{bert_qv}", "--out", "{new}", "--dtype", "fp16"], "--dtype: no 'fp16'; accepted: fp32, bf16"),
        (["merge", "{bert_qv}", "--out", "{full}"], "--out: {full} is not empty, and nothing is overwritten"),
        (["compose", "{bert_qv}", "--out", "{new}"], "'{bert_qv}' does not end in a weight; write it as {bert_qv}:0.5"),
        (["compose", "{bert_qv}:nan", "--out", "{new}"], "does not end in a weight; write it as {bert_qv}:0.5"),
        (
            ["compose", "{bert_qv}:1", "--head", "{bert_all}", "--out", "{new}"],
            "--head: {bert_all} is none of the runs",
        ),
        (["compose", "{bert_qv}:1", "--with-base", "--out", "{new}"], "--with-base: goes with --adapter"),
        (["compose", "{bert_qv}:1", "--adapter", "--dtype", "bf16", "--out", "{new}"], "--dtype: goes with a merged"),
        (["switch", "{bert_qv}", "--prompt", "a"], "RUN: a switch needs two runs or more"),
        (["switch", "{bert_qv}", "{bert_qv}", "--prompt", "a"], "RUN: {bert_qv} is named twice"),
        (["switch", "{bert_qv}", "{bert_all}", "--prompt", " "], "--prompt: is empty"),
        (["latency", "{bert_qv}", "--batch", "1,x"], "--batch: 'x' is not a whole number above 0"),
        (["latency", "{bert_qv}", "--batch", "1,2"], "2 batch sizes and 3 lengths; they are taken in pairs"),
        (["latency", "{bert_qv}", "--length", "0"], "--length: '0' is not a whole number above 0"),
        (["latency", "{bert_qv}", "--rounds", "5"], "--rounds: 5 is below 6, and fewer give no 95 % interval"),
        (["latency", "{bert_qv}", "--length", "600"], "--length: 600 tokens are more than the 512 that tiny has"),
        (["import", "{full}"], "{full}: is no adapter folder (it has no adapter_config.json)"),
    ],
)
def test_a_command_that_cannot_be_carried_out_writes_nothing(root, names, tmp_path, capsys, words, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    places = {**names, "new": tmp_path / "new", "full": tmp_path / "full"}
    assert call(root, *(word.format(**places) for word in words)) == cli.EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert message.format(**places) in err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


@pytest.mark.parametrize(
    ("words", "shapes"),
    [
        (["--batch", "1,16", "--length", "128,256"], [(1, 128), (16, 256)]),
        (["--batch", "1,16", "--length", "128,256", "--grid"], [(1, 128), (1, 256), (16, 128), (16, 256)]),
        (["--batch", "4", "--length", "128,256"], [(4, 128), (4, 256)]),
        ([], [(1, 128), (16, 256), (32, 512)]),
    ],
)
def test_shapes_are_pairs_as_in_the_paper_or_a_grid(root, names, monkeypatch, words, shapes):
    seen = []

    def stop(runs, shapes, **_):
        seen.extend(shapes)
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_bench.artifacts.latency.measure_latency", stop)
    assert call(root, "latency", names["bert_qv"], *words) == cli.EXIT_INTERRUPTED
    assert seen == shapes


def test_weights_that_were_changed_end_in_a_failure(copy_of, tmp_path, capsys):
    run = copy_of("bert_qv")
    path = run.weights / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert call(tmp_path / "copy", "merge", run.path.name, "--out", str(tmp_path / "new")) == cli.EXIT_FAILED
    assert "train it again with again=2, or bring the file back from a copy" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()

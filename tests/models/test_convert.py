"""Oracle: the bytes that a stand-in for the slow reading wrote; the real conversion is in `test_load.py`."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from lora_bench.errors import ModelError
from lora_bench.models import convert
from lora_bench.models.convert import MANIFEST, converted_tokenizer, converted_weights, damaged_files, is_intact


@pytest.fixture
def gguf(tmp_path):
    """A file that only the stand-ins can read."""
    path = tmp_path / "net.gguf"
    path.write_bytes(b"quantised")
    return path


@pytest.fixture
def calls(monkeypatch):
    """Replaces the two readers; the list grows with each conversion."""
    made = []

    def write_weights(gguf, folder):
        made.append("weights")
        (folder / "model.safetensors").write_bytes(b"weights of " + gguf.read_bytes())

    def write_tokenizer(gguf, folder):
        made.append("tokenizer")
        (folder / "tokenizer.json").write_text("{}")

    monkeypatch.setattr(convert, "_write_weights", write_weights)
    monkeypatch.setattr(convert, "_write_tokenizer", write_tokenizer)
    return made


def test_a_file_is_converted_once(gguf, calls, tmp_path, capsys):
    folder = converted_weights(gguf, cache=tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == b"weights of quantised"
    assert (folder / "tokenizer.json").is_file()
    told = capsys.readouterr()
    assert "Weights of net.gguf: " in told.err
    assert "converting, once, about 15 s" in told.err
    assert told.out == ""
    assert converted_weights(gguf, cache=tmp_path / "cache") == folder
    converted_tokenizer(gguf, cache=tmp_path / "cache")
    assert sorted(calls) == ["tokenizer", "weights"]
    assert capsys.readouterr().err == ""
    assert is_intact(folder)
    assert damaged_files(folder) == []


def test_another_file_gets_another_folder(gguf, calls, tmp_path):
    first = converted_tokenizer(gguf, cache=tmp_path / "cache")
    gguf.write_bytes(b"another quantisation")
    second = converted_tokenizer(gguf, cache=tmp_path / "cache")
    assert first != second
    assert is_intact(first)


def test_a_folder_whose_name_is_that_of_another_file_is_not_taken_for_it(gguf, calls, tmp_path, monkeypatch):
    """Both digests begin with the same twelve digits, which are all that is in the name."""
    digests = {b"quantised": "0" * 12 + "a" * 52, b"another": "0" * 12 + "b" * 52}
    read = convert.file_digest
    monkeypatch.setattr(
        convert, "file_digest", lambda path, cache: digests.get(path.read_bytes()) or read(path, cache=cache)
    )
    converted_weights(gguf, cache=tmp_path / "cache")
    gguf.write_bytes(b"another")
    folder = converted_weights(gguf, cache=tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == b"weights of another"


def flip(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"weights"),
        lambda folder: flip(folder / "model.safetensors"),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{"),
    ],
    ids=["file missing", "file cut", "bit flipped", "manifest missing", "manifest cut"],
)
def test_a_damaged_folder_is_made_again(damage, gguf, calls, tmp_path, capsys):
    folder = converted_weights(gguf, cache=tmp_path / "cache")
    damage(folder)
    assert not is_intact(folder)
    assert damaged_files(folder)
    capsys.readouterr()
    assert converted_weights(gguf, cache=tmp_path / "cache") == folder
    assert "is damaged: converting again" in capsys.readouterr().err
    assert (folder / "model.safetensors").read_bytes() == b"weights of quantised"
    assert calls.count("weights") == 2


def test_a_copied_cache_is_believed_after_hashing(gguf, calls, tmp_path):
    folder = converted_weights(gguf, cache=tmp_path / "cache")
    os.utime(folder / "model.safetensors")
    assert is_intact(folder)


def test_a_flip_that_hides_its_time_is_found_by_the_full_check(gguf, calls, tmp_path):
    folder = converted_weights(gguf, cache=tmp_path / "cache")
    state = (folder / "model.safetensors").stat()
    flip(folder / "model.safetensors")
    os.utime(folder / "model.safetensors", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert is_intact(folder)
    assert damaged_files(folder) == ["model.safetensors"]


def test_a_conversion_that_was_killed_leaves_nothing_behind(gguf, calls, tmp_path):
    cache = tmp_path / "cache"
    folder = converted_weights(gguf, cache=cache)
    leftover = folder.with_name(f"{folder.name}.partial-1")
    leftover.mkdir()
    (leftover / "half").write_text("")
    (folder / MANIFEST).unlink()
    converted_weights(gguf, cache=cache)
    assert not leftover.exists()


def test_a_failed_conversion_leaves_no_folder(gguf, calls, tmp_path, monkeypatch):
    def fail(gguf, folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "_write_tokenizer", fail)
    with pytest.raises(KeyboardInterrupt):
        converted_tokenizer(gguf, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache" / "tokenizer").iterdir() if path.is_dir()] == []


def _count(gguf, cache, log):
    def write_tokenizer(gguf, folder):
        with open(log, "a") as file:
            file.write("x")
        (folder / "tokenizer.json").write_text("{}")

    convert._write_tokenizer = write_tokenizer
    converted_tokenizer(gguf, cache=cache)


def test_two_processes_do_not_convert_twice(gguf, tmp_path):
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    workers = [context.Process(target=_count, args=(gguf, tmp_path / "cache", log)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "x"


def test_a_file_that_is_no_gguf_is_named(gguf, tmp_path):
    with pytest.raises(ModelError, match=r"net.gguf: cannot be read as GGUF .*install or fetch the file again"):
        converted_tokenizer(gguf, cache=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(gguf, calls, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot be written .*set paths.cache to a folder with 600 MB free"):
        converted_tokenizer(gguf, cache=tmp_path / "file")

"""Oracle: the lines that arrive in a file."""

from __future__ import annotations

import io

from rich.table import Table

from lora_bench.console import build_console


def test_nothing_folds_or_is_cut_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    file = io.StringIO()
    console = build_console(file)
    table = Table(box=None, padding=0)
    table.add_column("x" * 150)
    table.add_row("y" * 300)
    console.print("word " * 100)
    console.print(table)
    assert [len(line.rstrip()) for line in file.getvalue().splitlines()] == [499, 150, 300]


def test_a_terminal_keeps_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert build_console(io.StringIO()).width == 40

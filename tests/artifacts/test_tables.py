"""Oracle: the tables written out."""

from __future__ import annotations

from lora_bench.artifacts.latency import Cell, LatencyReport, Network
from lora_bench.artifacts.switch import Adapter, SwitchReport
from lora_bench.artifacts.tables import latency_table, markdown_table, switch_table
from lora_bench.measure.latency import Ratio, Spread


def test_columns_are_padded_and_bars_escaped():
    assert markdown_table(["a", "long"], [["x|y", "1"]]) == "| a    | long |\n|------|------|\n| x\\|y | 1    |"


def test_latency_is_a_row_per_network_and_a_column_per_shape():
    networks = [Network("base", "", True, 10), Network("lora qv r=2, merged", "run", True, 10)]
    cells = [
        Cell("base", 1, 128, Spread(10.0, 9.0, 12.0, 30), Ratio(1.0, 1.0, 1.0), True),
        Cell("lora qv r=2, merged", 1, 128, Spread(10.1, 9.2, 12.5, 30), Ratio(1.01, 0.995, 1.02), True),
        Cell("base", 16, 256, Spread(100.0, 90.0, 120.0, 30), Ratio(1.0, 1.0, 1.0), True),
        Cell("lora qv r=2, merged", 16, 256, Spread(130.0, 92.0, 125.0, 30), Ratio(1.3, 1.2, 1.4), False),
    ]
    head, _, base, merged = latency_table(LatencyReport(networks, cells)).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "network",
        "batch 1, 128 tokens",
        "batch 16, 256 tokens",
    ]
    assert "| 10.0 ms [9.00, 12.0]" in base
    assert "10.1 ms [9.20, 12.5]: +1.0 % [−0.5, +2.0], inside the noise |" in merged
    assert "130 ms [92.0, 125]: +30.0 % [+20.0, +40.0]  " in f"{merged}  ".replace(" |", "  ")


def test_a_switch_shows_the_base_where_it_answered():
    adapter = Adapter("run", 5 * 1024, 12.0, Spread(0.5, 0.4, 0.6, 30), ["yes\nand no", "x" * 80])
    silent = switch_table(SwitchReport(100.0, 2**20, [], [adapter]), ["a?", "b?"]).splitlines()
    spoken = switch_table(SwitchReport(100.0, 2**20, ["1", "2"], [adapter]), ["a?", "b?"]).splitlines()
    assert (len(silent), len(spoken)) == (3, 4)
    assert "5.00 KiB" in silent[2]
    assert "0.50 ms [0.40, 0.60]" in silent[2]
    assert "yes and no" in silent[2]
    assert f"{'x' * 59}…" in silent[2]
    assert "none: the base alone" in spoken[2]

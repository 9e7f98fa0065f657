"""Oracle: what CommonMark makes of it (markdown-it-py, which rich brings): one paragraph that holds the text alone."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt
from support.synthetic_runs import finish_run, replaced, start_run, synthetic_config

from lora_bench.markdown import plain
from lora_bench.report import build_comparison, comparison_markdown
from lora_bench.tracking.projection import NOTE_TAG, read_projection

HOSTILE = [
    '=HYPERLINK("http://evil.example","x")',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://evil.example/pixel.png)",
    "[x]: http://evil.example",
    "a | b | c",
    "**bold** and *stress*",
    "a\n\n# heading\n- item",
    "&lt;script&gt; &#60;b&#62;",
    "back\\slash \\[x](y) \\<b>",
    "שלום עולם",
    "👩\u200d🔬 🇫🇷 emoji",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_reads_as_it_is_and_nothing_of_it_acts(text):
    (_, inline, _) = MarkdownIt("commonmark").parse(f"x {plain(text)}")
    assert {token.type for token in inline.children} <= {"text", "text_special"}
    assert "".join(token.content for token in inline.children) == f"x {' '.join(text.split())}"


def test_what_turns_or_hides_the_text_around_it_is_taken_out():
    assert plain("a\u202egnp.exe\u2066b\u200f\x1b[31m\x00") == "agnp.exeb [31m"
    assert plain("usual: 1.5e-4, r=8 [0.1, 0.2], `run.py`, tweet_sentiment") == (
        "usual: 1.5e-4, r=8 [0.1, 0.2], `run.py`, tweet_sentiment"
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_notes_and_errors_of_a_run_cross_neither_into_a_report_nor_into_mlflow(tmp_path, text):
    config = synthetic_config()
    run = start_run(tmp_path, config)
    finish_run(run, config, status="failed")
    replaced(run, notes=[text], error=text, scores=[])
    markdown = MarkdownIt("commonmark").enable("table")
    usual = {"text", "text_special", "softbreak", "hardbreak", "strong_open", "strong_close", "code_inline"}
    for shown in (comparison_markdown(build_comparison([run])), read_projection(run).tags[NOTE_TAG]):
        blocks = markdown.parse(shown)
        assert not [token for token in blocks if token.type in ("html_block", "heading_open", "fence")]
        assert {child.type for token in blocks for child in token.children or []} <= usual
    rows = [line for line in comparison_markdown(build_comparison([run])).splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1

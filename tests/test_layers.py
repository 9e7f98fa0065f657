"""Oracle: the picture of imports in the README (from the design): each line only to lines above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lora_bench"

LINES = [
    [
        *(
            "console",
            "diskpaths",
            "errors",
            "launchers",
            "manifest",
            "markdown",
            "reading",
            "records",
            "redact",
            "rundir",
            "shapes",
        ),
        *("tables", "terminal"),
    ],
    ["config"],
    ["models", "methods", "tasks", "measure"],
    ["training", "evaluation"],
    ["naming", "placing", "preflight", "recorder", "progress", "prepared", "summary", "benchmark"],
    ["execution", "tracking", "artifacts"],
    ["search"],
    ["cli", "datasheet", "doctor", "doctor_cluster", "listing", "single"],
]
"""From the ground up. Members of one line do not import each other, except on the lines named below."""

OPEN_LINES = (0, 4, 7)
"""Lines whose members may import each other: the ground, one run, the entry points."""

REPORT_MAY = {"errors", "markdown", "records", "rundir", "report"}

DOORS = {
    "mlflow": {"tracking"},
    "optuna": {"search"},
    "deepspeed": {"training"},
    "hydra": {"config", "search"},
    "pyarrow": {"tables"},
    "peft": {"methods", "models", "execution", "artifacts"},
}
"""Which parts may import a heavy library."""


def imports() -> list[tuple[str, str, str]]:
    """(file, its part, imported module) for every import in the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        part = relative.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found += [(str(relative), part, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.level == 0, f"{relative}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [(str(relative), part, name) for name in ([node.module] if "." in node.module else names)]
    return found


IMPORTS = imports()
LINE_OF = {part: index for index, line in enumerate(LINES) for part in line}


def test_the_picture_names_every_part():
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} - set(LINE_OF) == {"report", "py.typed"} - {"py.typed"} | (
        {"py.typed"} & parts
    )
    assert len(IMPORTS) > 100


@pytest.mark.parametrize("part", sorted(LINE_OF))
def test_imports_point_to_lines_above_only(part):
    wrong = []
    for file, own, module in IMPORTS:
        if own != part or not module.startswith("lora_bench."):
            continue
        target = module.split(".")[1]
        if target == own or target not in LINE_OF:
            continue
        is_peer_allowed = LINE_OF[target] == LINE_OF[own] and LINE_OF[own] in OPEN_LINES
        if not (LINE_OF[target] < LINE_OF[own] or is_peer_allowed):
            wrong.append(f"{file} imports {module}")
    assert wrong == []


def test_report_needs_records_alone():
    wrong = [
        f"{file} imports {module}"
        for file, own, module in IMPORTS
        if own == "report" and module.startswith("lora_bench.") and module.split(".")[1] not in REPORT_MAY
    ]
    assert wrong == []


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_heavy_library_has_its_doors(library):
    users = {own for _, own, module in IMPORTS if module.split(".")[0] == library}
    assert users <= DOORS[library]

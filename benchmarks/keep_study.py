"""Keep what a study measured, small enough for the repository: every record, and every item's score of every seed.

    python benchmarks/keep_study.py outputs results/2026-11-26-rank [--match minilm-tweet]

Writes `OUT/runs.jsonl.gz`. Its first line has the items of each split; each further line is one run, with its
configuration, its result and, for each split, the score of each item in that order. `read_kept` reads it back.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_bench.report.load import Record, load_records
from lora_bench.rundir import RunDir

FILE = "runs.jsonl.gz"
SPLITS = {"test": "predictions.jsonl", "validation": "predictions_validation.jsonl"}
FIELDS = {"nll": 5, "correct": 0, "num_tokens": 0, "rouge_l": 4}
"""What is kept of an item, with the decimals of it: `nll` in nats to 1e-5, far below its spread over seeds."""


def keep_study(root: Path, out: Path, *, match: str = "") -> Path:
    """Write the runs below `root/runs` that have a result and whose name holds `match`; return the file.

    Raises:
        SystemExit: If there is no such run, or runs of one split answered other items.
    """
    folders = sorted(path for path in (root / "runs").iterdir() if match in path.name)
    records = [record for record in load_records(map(RunDir, folders))[0] if record.result is not None]
    if not records:
        raise SystemExit(f"{root}/runs: no run with a result has '{match}' in its name")
    header: dict[str, list[str]] = {}
    lines = [_line(record, header) for record in records]
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    # Without a time stamp, so that the same runs give the same file.
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for line in ({"items": header}, *lines):
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return path


def read_kept(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs of a kept study: `config`, `result`, and `items` by split, item and field."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        names = json.loads(next(file))["items"]
        for line in file:
            run = json.loads(line)
            run["items"] = {
                split: {field: dict(zip(names[split], values, strict=True)) for field, values in columns.items()}
                for split, columns in run["items"].items()
            }
            yield run


def _line(record: Record, header: dict[str, list[str]]) -> dict[str, Any]:
    columns: dict[str, dict[str, list[float]]] = {}
    for split, file in SPLITS.items():
        path = record.run.path / file
        if not path.exists():
            continue
        items = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = [item["item_id"] for item in items]
        if header.setdefault(split, names) != names:
            raise SystemExit(f"{path}: answers other {split} items than the runs before it; keep them apart by --match")
        columns[split] = {
            field: [round(float(item[field]), digits) if digits else int(item[field]) for item in items]
            for field, digits in FIELDS.items()
            if all(item.get(field) is not None for item in items)
        }
    result = json.loads(record.run.result.read_text(encoding="utf-8"))
    return {"config": record.config, "result": result, "items": columns}


def main() -> None:
    """Parse the words and keep the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="what `paths.root` was, the folder with `runs/`")
    parser.add_argument("out", type=Path, help="a folder below results/")
    parser.add_argument("--match", default="", help="a part of the runs' names")
    options = parser.parse_args()
    path = keep_study(options.root, options.out, match=options.match)
    print(f"{path}: {sum(1 for _ in read_kept(path))} runs, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

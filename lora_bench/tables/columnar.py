"""Parquet and Arrow files, read by pyarrow, which is imported here alone."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

from lora_bench.tables.table import Number, Table, TableError


def read_columnar(data: bytes, path: Path) -> Table:
    """Return the rows of a parquet or Arrow file.

    Raises:
        TableError: If it is damaged.
    """
    content = _open(data, path)
    columns = [column.to_pylist() for column in content.columns]
    rows = [[_cell(value) for value in row] for row in zip(*columns, strict=True)] if columns else []
    return Table(path, tuple(content.column_names), rows, list(range(1, len(rows) + 1)), "row")


def column_names(data: bytes, path: Path) -> tuple[str, ...]:
    """Return the names of the columns; no row is read of a parquet file."""
    import pyarrow.parquet

    if not data.startswith(b"PAR1"):
        return tuple(_open(data, path).column_names)
    try:
        return tuple(pyarrow.parquet.read_schema(io.BytesIO(data)).names)
    except (pyarrow.ArrowException, OSError) as err:
        raise TableError(_damage(path, err)) from err


def _open(data: bytes, path: Path) -> Any:
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    try:
        if data.startswith(b"PAR1"):
            return pyarrow.parquet.read_table(io.BytesIO(data))
        return pyarrow.feather.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError) as err:
        raise TableError(_damage(path, err)) from err


def _damage(path: Path, err: Exception) -> str:
    return f"{path}: is damaged or cut short ({str(err).splitlines()[0]}); fetch or write it again"


def _cell(value: Any) -> Any:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return Number(value)
    return value

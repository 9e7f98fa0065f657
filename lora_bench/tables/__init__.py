"""A user's table, whatever its file format: CSV with any separator, TSV, JSON, JSON lines, parquet, Arrow, compressed.

This is the one door for user data files. It knows no task: it returns rows with the place of each, or says precisely
what is wrong with the file. It executes nothing, downloads nothing and caches nothing on disk.
"""

from lora_bench.tables.read import FORMATS, Glance, glance, read_table
from lora_bench.tables.table import Number, Table, TableError, name_places

__all__ = ["FORMATS", "Glance", "Number", "Table", "TableError", "glance", "name_places", "read_table"]

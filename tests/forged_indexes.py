"""Indexes that are not what cellnet_sd wrote, though their digest fits."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cellnet_sd.index_parquet import sealed, sealed_schema


def rewritten(index: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the table of an index and what it says that is not columnar, its metadata."""
    table = change(pq.read_table(index).replace_schema_metadata(sealed_schema(index).metadata))
    metadata = sealed(table.column_names, table.schema.metadata)
    pq.write_table(table.replace_schema_metadata(metadata), index)
    assert sealed_schema(index) is not None

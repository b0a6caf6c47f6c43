"""The index of a file as large as all of Cell-NET, without the file: a real index, its rows repeated."""

import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from cellnet_sd import indexfile
from cellnet_sd.identity import Identity
from cellnet_sd.indexfile import index_paths

_ROWS: Final = 2**17


def large_index(path: Path, rows: int, folder: Path) -> Path:
    """Repeat the index of a file to so many rows.

    Parameters
    ----------
    path
        A file with its index beside it.
    rows
        How many rows the large index has; their names are all different, all else repeats.
    folder
        Where to put it.

    Returns
    -------
    The path of a copy of the file that `cellnet_sd.open` opens by the large index. Its values are not to be read: rows
    beyond those of the file repeat its places.
    """
    import pyarrow.parquet as pq

    target = folder / f"large-{path.name}"
    shutil.copyfile(path, target)
    table = pq.read_table(index_paths(path)[0])
    schema = _described(table.schema, rows, Identity.of(target))
    with pq.ParquetWriter(index_paths(target)[0], schema, **indexfile.writer_options(schema)) as writer:
        for start in range(0, rows, _ROWS):
            numbers = np.arange(start, min(start + _ROWS, rows))
            writer.write_table(_renamed(table.take(numbers % table.num_rows), numbers, schema), _ROWS)
    return target


def _described(schema: Any, rows: int, identity: Identity) -> Any:
    """Return the schema with what it says of the number of rows and of the file put right, and sealed."""
    said = msgspec.json.decode(schema.metadata[indexfile._METADATA], type=indexfile._Metadata)  # noqa: SLF001
    said.n_cells, said.identity = rows, identity
    schema = schema.with_metadata({**schema.metadata, indexfile._METADATA: msgspec.json.encode(said)})  # noqa: SLF001
    return schema.with_metadata({**schema.metadata, indexfile._DIGEST: indexfile._digest(schema)})  # noqa: SLF001


def _renamed(table: Any, numbers: Any, schema: Any) -> Any:
    import pyarrow as pa

    names = pa.array(np.char.add("Cell_", np.char.zfill(numbers.astype(str), 8)).astype(object))
    at = table.column_names.index("name")
    return table.set_column(at, "name", names.cast(table.schema.field("name").type)).cast(schema)

"""The index of a file as large as all of Cell-NET, without the file: a real index, its rows repeated."""

import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from cellnet_sd.identity import Identity
from cellnet_sd.index_parquet import sealed, sealed_schema, writer
from cellnet_sd.indexfile import METADATA, Metadata, index_paths

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
    metadata = _described(sealed_schema(index_paths(path)[0]).metadata, rows, Identity.of(target))
    with writer(index_paths(target)[0], table.schema) as file:
        for start in range(0, rows, _ROWS):
            numbers = np.arange(start, min(start + _ROWS, rows))
            file.write_table(_renamed(table.take(numbers % table.num_rows), numbers), _ROWS)
        file.add_key_value_metadata(sealed(table.column_names, metadata))
    return target


def _described(metadata: dict[bytes, bytes], rows: int, identity: Identity) -> dict[bytes, bytes]:
    """Return what an index says that is not columnar with the number of rows and the file put right."""
    said = msgspec.json.decode(metadata[METADATA], type=Metadata)
    said.n_cells, said.identity = rows, identity
    return {**metadata, METADATA: msgspec.json.encode(said)}


def _renamed(table: Any, numbers: Any) -> Any:
    import pyarrow as pa

    names = pa.array(np.char.add("Cell_", np.char.zfill(numbers.astype(str), 8)).astype(object))
    at = table.column_names.index("name")
    return table.set_column(at, "name", names.cast(table.schema.field("name").type))

"""The Parquet file of an index: columns, and beside them, in its metadata, all that is not columnar, with a digest."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cellnet_sd.sources.columns import PREFIX
from cellnet_sd.whole_files import appearing

_DIGEST: Final = b"cellnet_sd_digest"
_OF_ARROW: Final = b"ARROW:schema"
_GROUP_ROWS: Final = 2**16


def write_table(table: Any, metadata: Mapping[bytes, bytes], target: Path) -> None:
    """Write an index, an Arrow table and what is not columnar, at once: until it is whole, it is not there."""
    with appearing(target) as unfinished, writer(unfinished, table.schema) as file:
        file.write_table(table, _group_rows(table))
        file.add_key_value_metadata(sealed(table.column_names, metadata))


def writer(path: Path, schema: Any) -> Any:
    """Return a Parquet writer for an index: checksums, dictionaries for labels alone, and differences of addresses.

    What is not columnar is added to it in the end: as metadata of `schema`, Arrow would write and parse it twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetWriter(
        path,
        schema.remove_metadata(),
        compression="zstd",
        write_page_checksum=True,
        write_statistics=False,  # nothing is looked for by value
        use_dictionary=[field.name for field in schema if pa.types.is_dictionary(field.type)],
        column_encoding={field.name: "DELTA_BINARY_PACKED" for field in schema if field.name.startswith(PREFIX)},
    )


def _group_rows(table: Any) -> int:
    """Return the rows of a row group: each holds all labels of a column again, so no fewer than the labels are."""
    import pyarrow as pa

    labelled = (column for column in table.columns if pa.types.is_dictionary(column.type))
    return max([_GROUP_ROWS, *(len(column.chunk(0).dictionary) for column in labelled if column.num_chunks)])


def sealed(columns: Sequence[str], metadata: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what is not columnar with a digest of it and of the columns' names; pages have checksums of their own."""
    own = {key: value for key, value in metadata.items() if key != _DIGEST}
    digest = hashlib.blake2b(digest_size=16)
    for item in (*map(str.encode, columns), *(part for pair in sorted(own.items()) for part in pair)):
        digest.update(len(item).to_bytes(8, "little"))
        digest.update(item)
    return {**own, _DIGEST: digest.hexdigest().encode()}


def sealed_schema(path: Any) -> Any:
    """Return the schema of an index, a path or what is read from a remote one, with what is not columnar as metadata.

    `None` if its digest is not that of what it says.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema, stated = file.schema_arrow, file.metadata.metadata or {}
    metadata = {key: value for key, value in stated.items() if key != _OF_ARROW}
    return schema.with_metadata(metadata) if metadata == sealed(schema.names, metadata) else None

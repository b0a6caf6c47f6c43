"""Objects by their headers: what containers state beside their cells, without listing what lies in them."""

import numpy as np

from cellnet_sd.sources.native.cells import Outputs, read_object
from cellnet_sd.sources.native.codes import C_MORE_LINKS, C_STATUS, F_HEADER, GROW
from cellnet_sd.sources.native.columns import Columns, Members
from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled
from cellnet_sd.sources.native.interning import Tables
from cellnet_sd.sources.native.passes import Pass
from cellnet_sd.sources.native.primitives import copy_numbers
from cellnet_sd.sources.native.scan import Batch, NativeScan, attribute_columns, chunk_columns
from cellnet_sd.sources.native.work import Work

_USE = 1


@compiled
def read_objects(buf: Bytes, ctx: Ints, headers: Ints, start: int, w: Work, tables: Tables, out: Outputs) -> int:
    """Read the objects whose headers are at `headers[start:]`, and their attributes; see `read_cells`."""
    for i in range(start, headers.size):
        copy_numbers(ctx, w.saved)
        row = out.objects[i]
        row[:] = -1
        row[F_HEADER] = headers[i]
        read_object(buf, ctx, row, _USE, i, w, tables, out)
        if ctx[C_STATUS] == GROW:
            copy_numbers(w.saved[:C_MORE_LINKS], ctx)
            return i
    return headers.size


def objects_at(scan: NativeScan, headers: Ints) -> Batch:
    """Return what is at some headers, as the groups of a batch: one entry each, with its attributes."""
    done = Pass.over(scan.superblock, scan.known, headers.size)
    columns = Columns.of(done.rows(read_objects, headers, 1, 0))
    translated = done.translated()
    _, attributes, chunks = done.found()
    none = np.empty(0, np.int64)
    return Batch(
        {},
        columns.settled(0, translated, scan.known),
        Members(Columns.room(1, 0).settled(0, translated, scan.known), none.astype(np.int32), none, none),
        attribute_columns(attributes, translated),
        chunk_columns(chunks),
    )

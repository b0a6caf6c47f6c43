"""Cell-cell communication: how it is stored, where it goes, and how it is stored again.

`detect` tells from a sample how a file stores CCC, `decode` turns batches of stored values into links between cells,
`select` puts the links onto the chosen cells, `annotate` writes them to an AnnData and `encode` takes them from there.
Rows send, columns receive.
"""

from cellnet_sd.components.ccc.annotation import CCCNotes, annotate
from cellnet_sd.components.ccc.commot import LigandReceptor, split_pair
from cellnet_sd.components.ccc.compressed import decode_compressed, is_usual
from cellnet_sd.components.ccc.context import CCCContext
from cellnet_sd.components.ccc.decoding import decode
from cellnet_sd.components.ccc.detection import detect
from cellnet_sd.components.ccc.encoding import EncodedCCC, encode
from cellnet_sd.components.ccc.layouts import CCCLayout, CCCLayoutName, Counting, Form
from cellnet_sd.components.ccc.links import CCCLinks, CCCTables, Reach, concat, reach, select

__all__ = [
    "CCCContext",
    "CCCLayout",
    "CCCLayoutName",
    "CCCLinks",
    "CCCNotes",
    "CCCTables",
    "Counting",
    "EncodedCCC",
    "Form",
    "LigandReceptor",
    "Reach",
    "annotate",
    "concat",
    "decode",
    "decode_compressed",
    "detect",
    "encode",
    "is_usual",
    "reach",
    "select",
    "split_pair",
]

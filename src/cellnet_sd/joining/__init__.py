"""Several files as one object: one namespace of slides, of cells and of genes, and one table.

What names what is settled first, on the indexes alone (`namespaces`); then each file gives a table by these names, and
the tables are joined (`tables`).
"""

from cellnet_sd.joining.tables import Piece, TableOfFiles

__all__ = ["Piece", "TableOfFiles"]

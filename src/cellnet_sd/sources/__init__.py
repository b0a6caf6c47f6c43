"""Where cells come from: one protocol (`base`), and one module or more per form of storage."""

"""Checking a whole file: what `validate` looks at, and the report it gives."""

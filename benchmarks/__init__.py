"""How fast cellnet_sd is, side by side with what a user would write: `uv run python -m benchmarks --help`."""

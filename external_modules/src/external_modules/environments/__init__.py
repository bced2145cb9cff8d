"""Environments of modules: made by uv, found again, shared between processes, pruned."""

"""Everything the workbench remembers: documents in SQLite, contents of files beside it."""

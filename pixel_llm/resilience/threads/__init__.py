"""Worker threads for plain functions that must end in time."""

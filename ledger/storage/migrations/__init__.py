"""Versions of the log's database, each a step from the one before. They stand as they were written."""

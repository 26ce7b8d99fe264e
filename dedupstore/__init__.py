"""A content-addressed, deduplicating, encrypted snapshot store for files and databases."""

__version__ = "0.1.0"

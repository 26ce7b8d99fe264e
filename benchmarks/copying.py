"""`python -I copying.py DATABASE COPY`: what a careful person does before saving an SQLite database in use: one copy, in one step.

sqlite3's own `.backup` copies a hundred pages at a time and begins anew when another process has written: beside
writers that never rest it does not end.
"""

import os
import sqlite3
import sys
from contextlib import closing


def copy(database: str, target: str) -> None:
    if os.path.exists(target):
        os.unlink(target)
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target)) as to,
    ):
        # Nobody needs the copy after a crash.
        to.execute("PRAGMA synchronous = OFF")
        to.execute("PRAGMA journal_mode = OFF")
        source.backup(to, pages=-1)


if __name__ == "__main__":
    copy(*sys.argv[1:])

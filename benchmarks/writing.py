"""`python -I writing.py DATABASE NUMBER`: a program that uses the shop's SQLite database until its standard input ends.

Every 20 ms one transaction: an event is written, an order changes its state. Prints a line when the first one is done, and at
the end how many there were and how long the slowest took. It waits for nothing but locks: nothing is flushed to the disk.
"""

import json
import select
import sqlite3
import sys
import time
from contextlib import closing

PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 300


def write(path: str, number: int) -> dict[str, float]:
    longest, done = 0.0, 0
    with closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        orders = database.execute("SELECT max(id) FROM orders").fetchone()[0]
        while True:
            began = time.perf_counter()
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "INSERT INTO events (customer_id, visit, address, path, agent, payload, milliseconds, happened_at) "
                "VALUES (?, hex(randomblob(16)), '10.1.2.3', '/basket', 'live', '{}', 7, '2026-11-02 00:00:00')",
                (number,),
            )
            order = 1 + (done * 7919 + number) % orders
            database.execute("UPDATE orders SET status = 'sent', updated_at = '2026-11-02' WHERE id = ?", (order,))
            database.execute("COMMIT")
            longest = max(longest, time.perf_counter() - began)
            done += 1
            if done == 1:
                print("ready", flush=True)
            if select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
                return {"transactions": done, "longest_wait_seconds": longest}


if __name__ == "__main__":
    print(json.dumps(write(sys.argv[1], int(sys.argv[2]))), flush=True)

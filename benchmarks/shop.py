"""A shop's database as a server holds it, before and after a day that changed one row in a hundred.

Four tables with what such tables have: keys, random tokens and hashes, prose, numbers, times, documents. A quarter of it
cannot be compressed. Half of the changed rows are among the newest 2 %, half lie anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.rows import Change, Row, changed_keys
from benchmarks.text import Prose

TABLES = ("customers", "orders", "reviews", "events")
BORN = datetime(2024, 1, 1, tzinfo=UTC)
"""When the shop was opened."""
TODAY = datetime(2026, 11, 1, tzinfo=UTC)

SCHEMA = """
CREATE TABLE customers (
  id {key}, token {uuid} NOT NULL, email {short} NOT NULL, name {short} NOT NULL, password {short} NOT NULL,
  settings {document} NOT NULL, balance {money} NOT NULL, active {boolean} NOT NULL,
  created_at {time} NOT NULL, last_seen {time} NOT NULL
);
CREATE TABLE orders (
  id {key}, customer_id {number} NOT NULL, status {short} NOT NULL, total {money} NOT NULL, address {short} NOT NULL,
  note {text} NOT NULL, placed_at {time} NOT NULL, updated_at {time} NOT NULL
);
CREATE TABLE reviews (
  id {key}, customer_id {number} NOT NULL, product {number} NOT NULL, stars {number} NOT NULL, body {text} NOT NULL,
  written_at {time} NOT NULL
);
CREATE TABLE events (
  id {key}, customer_id {number} NOT NULL, visit {uuid} NOT NULL, address {short} NOT NULL, path {short} NOT NULL,
  agent {short} NOT NULL, payload {document} NOT NULL, milliseconds {number} NOT NULL, happened_at {time} NOT NULL
);
"""
INDEXES = """
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX reviews_product ON reviews (product);
CREATE INDEX events_customer ON events (customer_id);
"""

_STATES = ("new", "paid", "packed", "sent", "delivered", "returned")
_PAGES = ("product", "basket", "search", "account/orders", "help", "checkout")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopCounts:
    """Rows of each table, in thousands when `orders` is one: customers are fewer, events more."""

    orders: int

    def rows(self, table: str) -> int:
        return {
            "customers": self.orders * 3 // 8,
            "orders": self.orders,
            "reviews": self.orders * 7 // 8,
            "events": self.orders * 17 // 8,
        }[table]


def schema(types: Mapping[str, str]) -> str:
    """The tables, with an engine's own types."""
    return SCHEMA.format_map(types)


def shop(counts: ShopCounts) -> Iterator[tuple[str, Iterator[Change]]]:
    """Every table with its rows in primary-key order. Each table's rows must be used up before the next."""
    make = _Maker(counts)
    yield "customers", make.customers()
    yield "orders", make.orders()
    yield "reviews", make.reviews()
    yield "events", make.events()


def write_rows(root: Path, counts: ShopCounts) -> None:
    """A file of tab-separated rows for each table, and one of those that change, as they are afterwards."""
    root.mkdir()
    for table, changes in shop(counts):
        with open(root / f"{table}.tsv", "w") as all_rows, open(root / f"{table}.changed.tsv", "w") as changed:
            for change in changes:
                all_rows.write(_line(change.before))
                if change.after is not change.before:
                    changed.write(_line(change.after))


def _line(row: Row) -> str:
    # Nothing in the rows has to be escaped: no tab, no line break, no backslash.
    return "\t".join(map(str, row)) + "\n"


class _Maker:
    def __init__(self, counts: ShopCounts) -> None:
        self._counts = counts
        self._prose = Prose("shop")
        self._random = random.Random("shop")
        self._agents = [f"Mozilla/5.0 ({self._prose.words(4)}) Browser/{n}.0.{n * 37}" for n in range(60, 100)]
        # Made beforehand: formatting a time costs more than all the rest of a row.
        self._clock = [f"{hour:02}:{minute:02}:{minute * 7 % 60:02}" for hour in range(24) for minute in range(60)]
        days = (TODAY - BORN).days
        self._days = [(BORN + timedelta(days=day)).strftime("%Y-%m-%d") for day in range(days)]

    def customers(self) -> Iterator[Change]:
        source, prose = self._random, self._prose
        total = self._counts.rows("customers")
        changed = changed_keys(total, source)
        for key in range(1, total + 1):
            name = prose.words(2).replace(".", "").replace(",", "").title()
            settings = (
                f'{{"theme": "{source.choice(("dark", "light"))}", "news": {source.choice(("true", "false"))}, '
                f'"seen": {source.randrange(10**6)}}}'
            )
            at = self._at(key, total)
            row: Row = (
                key, self._uuid(), f"{name.replace(' ', '.').lower()}{key % 997}@example.org", name,
                f"scrypt$16384${source.randbytes(16).hex()}${source.randbytes(32).hex()}",
                settings, self._money(90_000), source.randrange(2), at, at,
            )  # fmt: skip
            after = (*row[:6], self._money(90_000), row[7], at, self._now()) if key in changed else row
            yield Change(before=row, after=after)

    def orders(self) -> Iterator[Change]:
        source, prose = self._random, self._prose
        total = self._counts.rows("orders")
        changed = changed_keys(total, source)
        for key in range(1, total + 1):
            at = self._at(key, total)
            address = (
                f"{prose.words(2)} {source.randrange(1, 300)}, {source.randrange(10_000, 99_999)} {prose.words(1)}"
            )
            note = prose.words(source.randrange(0, 20))
            row: Row = (key, self._customer(), source.choice(_STATES), self._money(500_000), address, note, at, at)
            after = (*row[:2], source.choice(_STATES), *row[3:7], self._now()) if key in changed else row
            yield Change(before=row, after=after)

    def reviews(self) -> Iterator[Change]:
        source, prose = self._random, self._prose
        total = self._counts.rows("reviews")
        changed = changed_keys(total, source)
        for key in range(1, total + 1):
            body = prose.words(source.randrange(10, 100))
            row: Row = (
                key, self._customer(), source.randrange(20_000), source.randrange(1, 6), body, self._at(key, total),
            )  # fmt: skip
            # Whoever corrects what they wrote adds a sentence.
            after = (*row[:4], f"{body} {prose.words(12)}", self._now()) if key in changed else row
            yield Change(before=row, after=after)

    def events(self) -> Iterator[Change]:
        source = self._random
        total = self._counts.rows("events")
        changed = changed_keys(total, source)
        for key in range(1, total + 1):
            draw = source.getrandbits(64)
            path = f"/{_PAGES[draw % len(_PAGES)]}/{(draw >> 8) % 20_000}"
            address = f"10.{(draw >> 24) % 64}.{(draw >> 32) % 256}.{(draw >> 40) % 256}"
            agent = self._agents[(draw >> 48) % len(self._agents)]
            payload = f'{{"from": "{_PAGES[(draw >> 16) % len(_PAGES)]}", "width": {(draw >> 12) % 2400}}}'
            at = self._at(key, total)
            row: Row = (key, self._customer(), self._uuid(), address, path, agent, payload, draw % 4000, at)
            later = f'{{"from": "{_PAGES[draw % len(_PAGES)]}", "paid": {draw % 90_000}}}'
            after = (*row[:6], later, draw % 9000, at) if key in changed else row
            yield Change(before=row, after=after)

    def _uuid(self) -> str:
        text = self._random.randbytes(16).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _money(self, most_cents: int) -> str:
        cents = self._random.randrange(most_cents)
        return f"{cents // 100}.{cents % 100:02}"

    def _customer(self) -> int:
        return 1 + self._random.randrange(self._counts.rows("customers"))

    def _at(self, key: int, total: int) -> str:
        """Rows are made evenly over the years."""
        minutes = key * len(self._days) * 1440 // (total + 1)
        return f"{self._days[minutes // 1440]} {self._clock[minutes % 1440]}"

    def _now(self) -> str:
        return f"{TODAY:%Y-%m-%d} {self._clock[self._random.randrange(1440)]}"

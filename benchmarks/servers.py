"""Databases on running servers: those of the tests, filled with the shop before and after a day, shown in turns as `shop`."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.data import Bench, DataSet
from benchmarks.measure import CommandFailed, read_all
from benchmarks.shop import INDEXES, TABLES, schema
from benchmarks.subject import Subject
from benchmarks.tools import Database, Place
from tests.support.servers import Server, mariadb, postgres

NAME = "shop"
RESTORED = "shop_restored"
VERSIONS = ("shop_before", "shop_after")
BUFFER = "1G"
"""Memory of a server for its pages: a database in use is in memory."""


class Served(Subject):
    """A database that is shown by giving it the name that the tools know."""

    def __init__(self, bench: Bench, data: DataSet, server: Server) -> None:
        super().__init__(bench, data)
        self.server = server
        self._shown: int | None = None
        self._bytes: dict[int, int] = {}
        self._place = bench.work / "run" / "server"
        self._place.mkdir(parents=True, exist_ok=True)

    @property
    @abstractmethod
    def address(self) -> str:
        """As dedup is told."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None: ...

    @abstractmethod
    def drop(self, name: str) -> None: ...

    @abstractmethod
    def create(self, name: str) -> None: ...

    @abstractmethod
    def content(self, name: str) -> str:
        """A sum over all rows of all tables."""

    @abstractmethod
    def length(self) -> int:
        """Bytes of the shown database, as the server tells it."""

    @abstractmethod
    def folder(self) -> Path:
        """Where the server keeps its files."""

    def show(self, number: int) -> None:
        if self._shown is not None:
            self.rename(NAME, VERSIONS[self._shown])
        self.rename(VERSIONS[number], NAME)
        self._shown = number
        self._bytes[number] = self.length()

    def size(self) -> tuple[int, int]:
        return 1, self._bytes[self._shown or 0]

    def warm(self) -> None:
        read_all(self.folder())

    def item(self) -> tuple[Path, str]:
        return self._place, self.address

    def place(self, root: Path) -> Place:
        self.drop(RESTORED)
        return super().place(root)

    @contextmanager
    def restoring(self, place: Place, *, contents: bool) -> Iterator[None]:
        """dedup makes the new database itself; what is loaded into one by hand needs one."""
        if place.root.name != "dedup":
            self.create(RESTORED)
        yield
        same = self.content(RESTORED) == self.content(NAME)
        self.drop(RESTORED)
        if not same:
            raise CommandFailed("another database was restored than was saved")


class ServedPostgres(Served):
    """PostgreSQL: both databases are whole, the later one is a copy that was updated in place."""

    TYPES: Mapping[str, str] = {
        "key": "bigint PRIMARY KEY", "uuid": "uuid", "short": "text", "text": "text", "document": "jsonb",
        "money": "numeric(12,2)", "boolean": "boolean", "time": "timestamptz", "number": "integer",
    }  # fmt: skip

    @property
    def address(self) -> str:
        return f"postgresql://{self.server.user}@127.0.0.1:{self.server.port}/{NAME}"

    @property
    def environment(self) -> Mapping[str, str]:
        return self.server.environment

    @property
    def database(self) -> Database:
        restored = self.address.replace(f"/{NAME}", f"/{RESTORED}")
        return Database(
            file="shop.sql",
            bare=to_nowhere("pg_dump", "-Fc", "-Z0", "-d", self.address),
            dump=("pg_dump", "-d", self.address),
            load=("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", restored),
            restored=RESTORED,
        )

    def rename(self, old: str, new: str) -> None:
        self.server.run(f"ALTER DATABASE {old} RENAME TO {new}", "postgres")

    def drop(self, name: str) -> None:
        self.server.run(f"DROP DATABASE IF EXISTS {name}", "postgres")

    def create(self, name: str) -> None:
        self.server.run(f"CREATE DATABASE {name}", "postgres")

    def content(self, name: str) -> str:
        sums = ", ".join(f"(SELECT sum(hashtextextended(t::text, 0)) FROM {table} t)" for table in TABLES)
        return self.server.run(f"SELECT {sums}", name)

    def length(self) -> int:
        return int(self.server.run(f"SELECT pg_database_size('{NAME}')", "postgres"))

    def folder(self) -> Path:
        return Path(self.server.run("SHOW data_directory", "postgres")) / "base"

    def fill(self) -> None:
        before, after = VERSIONS
        self.create(before)
        self.server.run(schema(self.TYPES), before)
        for table in TABLES:
            self.server.run(f"\\copy {table} FROM '{self.data.shown}/{table}.tsv'", before)
        self.server.run(INDEXES, before)
        self.server.run("VACUUM ANALYZE", before)
        # A copy of the files: what is not changed lies where it lay.
        self.server.run(f"CREATE DATABASE {after} TEMPLATE {before} STRATEGY file_copy", "postgres")
        for table in TABLES:
            columns = ", ".join(f"{name} = c.{name}" for name in column_names(table))
            self.server.run(
                f"CREATE TEMP TABLE changed (LIKE {table});\n"
                f"\\copy changed FROM '{self.data.shown}/{table}.changed.tsv'\n"
                f"UPDATE {table} t SET {columns} FROM changed c WHERE t.id = c.id;",
                after,
            )
        self.server.run("VACUUM ANALYZE", after)
        self.server.run("CHECKPOINT", "postgres")


class ServedMariadb(Served):
    """MariaDB: a database has no name that could be changed, so its tables are moved."""

    TYPES: Mapping[str, str] = {
        "key": "bigint PRIMARY KEY", "uuid": "char(36)", "short": "varchar(255)", "text": "text", "document": "json",
        "money": "decimal(12,2)", "boolean": "boolean", "time": "datetime", "number": "integer",
    }  # fmt: skip

    @property
    def socket(self) -> str:
        return next(word.partition("=")[2] for word in self.server.ask if word.startswith("--socket="))

    @property
    def address(self) -> str:
        return f"mysql://root@localhost/{NAME}?socket={self.socket}"

    @property
    def database(self) -> Database:
        login = ("--no-defaults", "-u", "root", f"--socket={self.socket}")
        # The options that dedup takes: what a careful person pipes.
        options = ("--single-transaction", "--quick", "--skip-lock-tables", "--routines", "--events", "--hex-blob")
        dump = ("mariadb-dump", *login, *options, "--skip-dump-date", NAME)
        return Database(
            file="shop.sql",
            bare=to_nowhere(*dump),
            dump=dump,
            load=("mariadb", *login, RESTORED),
            restored=RESTORED,
        )

    def rename(self, old: str, new: str) -> None:
        for name in (old, new):
            self.server.run(f"CREATE DATABASE IF NOT EXISTS {name}")
        self.server.run("RENAME TABLE " + ", ".join(f"{old}.{table} TO {new}.{table}" for table in TABLES))

    def drop(self, name: str) -> None:
        self.server.run(f"DROP DATABASE IF EXISTS {name}")

    def create(self, name: str) -> None:
        self.server.run(f"CREATE DATABASE {name}")

    def content(self, name: str) -> str:
        answer = self.server.run("CHECKSUM TABLE " + ", ".join(TABLES), name)
        return answer.replace(f"{name}.", "")

    def length(self) -> int:
        query = f"SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = '{NAME}'"
        return int(self.server.run(query))

    def folder(self) -> Path:
        return Path(self.server.run("SELECT @@datadir")) / NAME

    def fill(self) -> None:
        before, after = VERSIONS
        self.server.run("SET GLOBAL local_infile = 1")
        for name in VERSIONS:
            self.create(name)
            self.server.run(schema(self.TYPES) + INDEXES, name)
        for table in TABLES:
            self._load(before, table, f"{table}.tsv", table)
            self.server.run(f"INSERT INTO {after}.{table} SELECT * FROM {before}.{table} ORDER BY id")
            columns = ", ".join(f"t.{name} = c.{name}" for name in column_names(table))
            self._load(
                after, table, f"{table}.changed.tsv", "changed",
                first=f"CREATE TEMPORARY TABLE changed LIKE {table};",
                then=f"UPDATE {table} t JOIN changed c USING (id) SET {columns};",
            )  # fmt: skip
        for name in VERSIONS:
            self.server.run("ANALYZE TABLE " + ", ".join(TABLES), name)

    def _load(self, database: str, table: str, file: str, into: str, *, first: str = "", then: str = "") -> None:
        load = f"LOAD DATA LOCAL INFILE '{self.data.shown}/{file}' INTO TABLE {into}"
        self.server.run(f"SET foreign_key_checks = 0; {first} {load}; {then}", database)


def to_nowhere(*argv: str) -> tuple[str, ...]:
    return ("sh", "-c", f"exec {shlex.join(argv)} > /dev/null")


def column_names(table: str) -> list[str]:
    """All but the key."""
    body = schema(dict.fromkeys(ServedPostgres.TYPES, "")).split(f"CREATE TABLE {table} (")[1].split(");")[0]
    return [column.split()[0] for column in body.split(",")][1:]


@contextmanager
def served_postgres(bench: Bench, data: DataSet) -> Iterator[Subject]:
    """A PostgreSQL server with both databases."""
    data.show(0)
    with postgres("-c", f"shared_buffers={BUFFER}B", "-c", "max_wal_size=4GB") as server:
        subject = ServedPostgres(bench, data, server)
        subject.fill()
        yield subject


@contextmanager
def served_mariadb(bench: Bench, data: DataSet) -> Iterator[Subject]:
    """A MariaDB server with both databases."""
    data.show(0)
    with mariadb(f"--innodb-buffer-pool-size={BUFFER}", "--local-infile=1") as server:
        subject = ServedMariadb(bench, data, server)
        subject.fill()
        yield subject

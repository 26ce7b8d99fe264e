"""A stored dump as the file that a database's own command line takes: psql, mysql or mariadb, sqlite3. No server is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed, TargetFailed
from dedupstore.sources.mysql_dump import about_any, portable
from dedupstore.sources.program import Program

_ENDS = {("sqlite", "copy"): ".db"}
_SCRIPT = ("pg_restore", "--file=-")


def ending(kind: str, format_: str) -> str:
    """What the name of such a file ends in."""
    return _ENDS.get((kind, format_), ".sql")


def plain(
    kind: str,
    format_: str,
    pieces: Iterable[bytes | memoryview],
    exec_prefix: Sequence[str],
    environ: Mapping[str, str],
    cancel: CancelToken,
) -> Iterator[bytes | memoryview]:
    """The pieces of the file. Raises TargetFailed when PostgreSQL's program is needed and fails, or is not there."""
    if kind == "mysql":
        yield from about_any(portable(pieces))
    elif (kind, format_) == ("postgresql", "custom"):
        yield from _script(Program(argv=(*exec_prefix, *_SCRIPT), env=environ), pieces, cancel)
    else:
        yield from pieces


def _script(program: Program, pieces: Iterable[bytes | memoryview], cancel: CancelToken) -> Iterator[memoryview]:
    try:
        with program.stream(cancel, talk=True) as stream:
            yield from stream.exchange(pieces)
    except SourceFailed as error:
        raise TargetFailed(
            "the dump could not be written as SQL",
            why=error.why,
            hints=[
                "pg_restore has to be as new as the pg_dump that made it: apt-get install postgresql-client",
                'or is run where the server is: exec = ["docker", …] in the configuration',
            ],
            code="database.export_failed",
        ) from error

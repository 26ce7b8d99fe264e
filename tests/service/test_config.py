"""The configuration: where it is read from, what it means, what is refused and in which words."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from dedupstore.errors import NothingMatches, UsageError
from dedupstore.service import config_show, config_text
from dedupstore.service.config import Fault, Loaded, examine, load, sample
from dedupstore.service.config_schema import CommandSource, FilesSource, MysqlSource, parse_hours
from tests.support.configuration import WHOLE, write

HOUR = 3600 * 10**9


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A machine without any configuration."""
    return {"HOME": str(tmp_path / "home"), "CONFIGURATION_DIRECTORY": str(tmp_path / "etc")}


def loaded(tmp_path: Path, text: str) -> Loaded:
    return load(str(write(tmp_path / "dedup.toml", text)), {})


def faults(tmp_path: Path, text: str) -> tuple[Fault, ...]:
    found, wrong = examine(str(write(tmp_path / "dedup.toml", text)), {})
    assert (found is None) == bool(wrong)
    return wrong


def fault(tmp_path: Path, text: str) -> Fault:
    (only,) = faults(tmp_path, text)
    return only


def test_without_files_there_is_an_empty_configuration(environ: dict[str, str]) -> None:
    found = load(None, environ)

    assert found.found.files == ()
    assert not found.config.repos and not found.config.sources
    assert found.default_repo == ""


def test_everything_that_can_be_said_is_understood(tmp_path: Path) -> None:
    config = loaded(tmp_path, WHOLE).config

    site, shop, ldap = (config.sources[name] for name in ("site", "shop", "ldap"))
    assert isinstance(site, FilesSource) and site.exclude_larger_than == 4 << 30 and site.repos == ("main", "nas")
    assert isinstance(shop, MysqlSource) and shop.databases == "all" and shop.type == "mysql"
    assert isinstance(ldap, CommandSource) and ldap.hook_timeout == 90 * 10**9
    assert config.repos["main"].limit_upload == 20_000_000
    (window,) = config.repos["main"].limit_upload_windows
    assert (window.rate, window.at.days, window.at.start, window.at.end) == (5_000_000, {0, 1, 2, 3, 4}, 480, 1200)
    assert config.repos["main"].object_lock == 14 * 24 * HOUR
    assert config.retention["default"].keep_yearly == -1
    assert config.replicas["offsite"].source == "main"
    assert config.schedules["nightly"].retry.attempts == 3
    assert config.verify.drill.sql == {"blogdb": "select count(*) > 0 from posts"}
    assert config.alerts.storage_over == 0.8
    assert config.server.metrics.token == "file:/etc/dedup/metrics.token"


def test_later_files_win_key_by_key(environ: dict[str, str], tmp_path: Path) -> None:
    etc, user = tmp_path / "etc", tmp_path / "home" / ".config" / "dedup"
    write(
        etc / "config.toml",
        '[repos.main]\nurl = "/a"\npassphrase = "env:A"\n[sources.x]\ntype = "files"\npaths = ["/x"]\n',
    )
    write(etc / "conf.d" / "20-later.toml", '[repos.main]\nurl = "/c"\n')
    write(etc / "conf.d" / "10-sooner.toml", '[repos.main]\nurl = "/b"\n')
    write(etc / "conf.d" / "ignored.txt", "this is no TOML")
    write(user / "config.toml", '\n\n[sources.x]\npaths = ["/y", "/z"]\n')

    found = load(None, environ)

    assert [path.name for path in found.found.files] == [
        "config.toml",
        "10-sooner.toml",
        "20-later.toml",
        "config.toml",
    ]
    assert (found.config.repos["main"].url, found.config.repos["main"].passphrase) == ("/c", "env:A")
    site = found.config.sources["x"]
    assert isinstance(site, FilesSource) and site.paths == ("/y", "/z")
    assert str(found.found.origin(("repos", "main", "url"))) == f"{etc}/conf.d/20-later.toml:2"
    assert str(found.found.origin(("repos", "main", "passphrase"))) == f"{etc}/config.toml:3"
    assert str(found.found.origin(("sources", "x", "paths"))) == f"{user}/config.toml:4"


def test_a_named_file_or_directory_stands_alone(environ: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "etc" / "config.toml", '[repos.system]\nurl = "/system"\n')
    write(tmp_path / "own" / "config.toml", '[repos.own]\nurl = "/own"\n')
    write(tmp_path / "own" / "conf.d" / "more.toml", '[repos.more]\nurl = "/more"\n')

    assert set(load(str(tmp_path / "own" / "config.toml"), environ).config.repos) == {"own"}
    assert set(load(str(tmp_path / "own"), environ).config.repos) == {"own", "more"}
    with pytest.raises(UsageError) as raised:
        load(str(tmp_path / "missing.toml"), environ)
    assert raised.value.code == "config.unreadable"


def test_an_unknown_key_is_refused_with_file_line_and_suggestion(tmp_path: Path) -> None:
    text = 'version = 1\n\n[sources.site]\ntype = "files"\npaths = [\n  "/srv",\n]\nexlude = ["*.tmp"]\n'

    wrong = fault(tmp_path, text)

    assert wrong.message == 'sources.site.exlude: unknown key "exlude"'
    assert wrong.place == f"{tmp_path}/dedup.toml:8"
    assert wrong.hint == 'did you mean "exclude"?'
    assert wrong.code == "config.unknown_key"


@pytest.mark.parametrize(
    ("text", "key", "line", "code"),
    [
        ("[repo.main]\n", "repo", 1, "config.unknown_key"),
        ('[repos.main]\npassphrase = "file:/x"\n', "repos.main", 1, "config.missing"),
        ("[repos.main]\nurl = 5\n", "repos.main.url", 2, "config.invalid_value"),
        ('[repos.main]\nurl = "backup"\n', "repos.main.url", 2, "config.invalid_value"),
        ('repos.main.url = "repo:other"\n', "repos.main.url", 1, "config.invalid_value"),
        ('[repos."a b"]\nurl = "/x"\n', "repos.a b", 1, "config.invalid_value"),
        ('[repos.m]\nurl = "/x"\nlimit_upload = "fast"\n', "repos.m.limit_upload", 3, "config.invalid_value"),
        ('[repos.m]\nurl = "/x"\nlimit_upload = "0"\n', "repos.m.limit_upload", 3, "config.invalid_value"),
        ('[repos.m]\nurl = "/x"\nobject_lock = "14 moons"\n', "repos.m.object_lock", 3, "config.invalid_value"),
        ('[repos.m]\nurl = "/x"\n[[repos.m.limit_upload_windows]]\nat = "Mon 9-17"\nrate = "1MB/s"\n',
         "repos.m.limit_upload_windows.at", 4, "config.invalid_value"),
        ("[sources.x]\n", "sources.x", 1, "config.missing"),
        ('[sources.x]\ntype = "file"\npaths = ["/x"]\n', "sources.x.type", 2, "config.invalid_value"),
        ('[sources.x]\ntype = "files"\npaths = []\n', "sources.x.paths", 3, "config.invalid_value"),
        ('[sources.x]\ntype = "files"\npaths = ["x"]\n', "sources.x.paths", 3, "config.invalid_value"),
        ('[sources.x]\ntype = "files"\npaths = "/x"\n', "sources.x.paths", 3, "config.invalid_value"),
        ('[sources.x]\ntype = "command"\ncommand = "ls -l"\nfilename = "x"\n', "sources.x.command", 3, "config.invalid_value"),
        ('[sources.x]\ntype = "stdin"\nfilename = "a/b"\n', "sources.x.filename", 3, "config.invalid_value"),
        ('[sources.x]\ntype = "postgresql"\ndsn = "postgresql://h/b"\noptions = ["-Z9"]\n', "sources.x.options", 4,
         "config.invalid_value"),
        ('[sources.x]\ntype = "postgresql"\ndsn = "postgresql://h/b"\npitr = "wal"\n', "sources.x.pitr", 4,
         "config.invalid_value"),
        ('[sources.x]\ntype = "mysql"\ndsn = "mysql://h/b"\npitr = "binlog"\n', "sources.x.pitr", 4,
         "config.invalid_value"),
        ('[retention.default]\nkeep_daily = true\n', "retention.default.keep_daily", 2, "config.invalid_value"),
        ('[retention.default]\nkeep_daily = -1\n', "retention.default.keep_daily", 2, "config.invalid_value"),
        ('[retention.default]\nkeep_within = "soon"\n', "retention.default.keep_within", 2, "config.invalid_value"),
        ('[schedules.x]\ncron = "every day"\n', "schedules.x.cron", 2, "config.invalid_value"),
        ('[schedules.x]\ncron = "0 3 * * *"\ntimezone = "Mars/Base"\n', "schedules.x.timezone", 3, "config.invalid_value"),
        ('[alerts]\nstorage_over = "full"\n', "alerts.storage_over", 2, "config.invalid_value"),
        ("[alerts]\nduration_factor = 0.5\n", "alerts.duration_factor", 2, "config.invalid_value"),
        ("version = 2\n", "version", 1, "config.invalid_value"),
        ('default_repo = "main"\n', "default_repo", 1, "config.unknown_repo"),
        ('[sources.x]\ntype = "files"\npaths = ["/x"]\nrepos = ["main"]\n', "sources.x.repos", 4, "config.unknown_repo"),
        ('[sources.x]\ntype = "files"\npaths = ["/x"]\nretention = "long"\n', "sources.x.retention", 4,
         "config.unknown_retention"),
        ('[schedules.x]\ncron = "0 3 * * *"\nsources = ["site"]\n', "schedules.x.sources", 3, "config.unknown_source"),
        ('[replicas.x]\nfrom = "a"\nto = "a"\n[repos.a]\nurl = "/x"\n[alerts]\nnotify = ["ops"]\n', "alerts.notify", 7,
         "config.unknown_channel"),
        ('[verify]\ndrill = { cron = "0 3 * * *", sources = ["db"] }\n', "verify.drill.sources", 2,
         "config.unknown_source"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, key: str, line: int, code: str) -> None:
    wrong = fault(tmp_path, text)

    assert wrong.message.startswith(f"{key}: ")
    assert wrong.place == f"{tmp_path}/dedup.toml:{line}"
    assert wrong.code == code


def test_one_look_tells_every_mistake(tmp_path: Path) -> None:
    text = 'verison = 1\n[repos.a]\nurl = "x"\ncolour = "red"\n[sources.s]\ntype = "files"\n'

    wrong = faults(tmp_path, text)

    assert [each.message.partition(":")[0] for each in wrong] == [
        "verison",
        "repos.a.colour",
        "repos.a.url",
        "sources.s",
    ]
    with pytest.raises(UsageError) as raised:
        load(str(tmp_path / "dedup.toml"), {})
    assert "and 3 more: dedup config check" in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        '[repos.m]\nurl = "/x"\npassphrase = "hunter2hunter2"\n',
        '[repos.m]\nurl = "s3://AKIA:hunter2hunter2@bucket/x"\n',
        '[sources.d]\ntype = "postgresql"\ndsn = "postgresql://u:hunter2hunter2@h/b"\n',
        '[sources.d]\ntype = "mysql"\ndsn = "mysql://u@h/b?password=hunter2hunter2"\n',
        '[sources.d]\ntype = "mysql"\ndsn = "mysql://u@h/b"\npassword = "hunter2hunter2"\n',
        '[server]\nmetrics = { token = "hunter2hunter2" }\n',
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        loaded(tmp_path, text)

    error = raised.value
    assert error.exit_code == 2
    assert "hunter2" not in f"{error.message} {error.why} {error.hints} {error.__cause__}"


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("[x\n", 1), ('a = "open\nb = 2\n', 1), ("a = 1\na = 2\n", 2), ("x = [1,\n", 1)],
)
def test_a_file_that_is_no_toml_is_refused_with_the_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(UsageError) as raised:
        loaded(tmp_path, text)

    assert raised.value.code == "config.syntax"
    assert f"dedup.toml, line {line}:" in raised.value.message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dedup.toml"
    path.write_bytes(b'a = 1\nb = "\xff"\n')

    with pytest.raises(UsageError, match="line 2"):
        load(str(path), {})


def test_a_table_and_a_value_of_one_name_are_refused(environ: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "etc" / "config.toml", '[repos.main]\nurl = "/a"\n')
    write(tmp_path / "etc" / "conf.d" / "x.toml", 'repos = "none"\n')

    with pytest.raises(UsageError, match="repos is a table in one file and a value in another"):
        load(None, environ)


def test_a_repository_is_found_by_name_and_by_place(tmp_path: Path) -> None:
    found = loaded(tmp_path, '[repos.nas]\nurl = "/mnt/nas/"\n[repos.home]\nurl = "~/backup"\n')

    assert found.repo("nas").url == "/mnt/nas/"
    assert found.repo_at("/mnt/nas") == "nas"
    assert found.repo_at(os.path.expanduser("~/backup")) == "home"
    assert found.repo_at("/elsewhere") == ""
    assert found.default_repo == ""
    assert loaded(tmp_path, '[repos.nas]\nurl = "/mnt/nas/"\n').default_repo == "nas"
    with pytest.raises(NothingMatches) as raised:
        found.repo("nsa")
    assert raised.value.hints == ('did you mean "nas"?',)


@pytest.mark.parametrize(
    ("text", "days", "start", "end"),
    [
        ("22:00-07:00", range(7), 1320, 420),
        ("Sun 00:00-24:00", [6], 0, 1440),
        ("Fri-Mon 8:30-9:00", [4, 5, 6, 0], 510, 540),
    ],
)
def test_hours_of_the_week(text: str, days: list[int], start: int, end: int) -> None:
    hours = parse_hours(text)

    assert (hours.days, hours.start, hours.end) == (frozenset(days), start, end)


@pytest.mark.parametrize("text", ["", "8-9", "Mon", "Foo 08:00-09:00", "08:00-25:00", "08:60-09:00", "24:00-08:00"])
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(UsageError):
        parse_hours(text)


def test_the_text_reads_back_as_the_same_document(tmp_path: Path) -> None:
    document = tomllib.loads(WHOLE)
    document["sources"]["site"]["note"] = 'quotes " \\ and\ta tab, a DEL \x7f, ünï'

    assert tomllib.loads(config_text.to_toml(document)) == document


def test_every_value_has_an_origin(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE)

    rows = {row.key: row for row in config_show.values(found, {"DEDUP_PASSPHRASE": "hunter2"}, repo="/elsewhere")}

    assert (
        rows["sources.site.one_file_system"].origin
        == f"{tmp_path}/dedup.toml:{1 + WHOLE.split(chr(10)).index('one_file_system = true')}"
    )
    assert rows["sources.site.hook_timeout"].value == '"10m"' and rows["sources.site.hook_timeout"].origin == "default"
    assert rows["passphrase"].value == "…" and rows["passphrase"].origin == "env DEDUP_PASSPHRASE"
    assert not any("token-in-an-address" in row.value or "hunter2" in row.value for row in rows.values())


def test_the_schema_describes_every_key_of_the_whole_configuration() -> None:
    schema = config_show.schema()

    def allows(value: object, described: dict) -> bool:  # type: ignore[type-arg]
        """The part of JSON Schema that is used here."""
        for word in ("oneOf", "anyOf"):
            if word in described:
                return any(allows(value, choice) for choice in described[word])
        if "const" in described or "enum" in described:
            return value in described.get("enum", [described.get("const")])
        if isinstance(value, dict):
            members = described.get("properties", {}) | dict.fromkeys(
                value, next(iter(described.get("patternProperties", {}).values()), None)
            )
            members |= described.get("properties", {})
            return all(members.get(key) is not None and allows(member, members[key]) for key, member in value.items())
        if isinstance(value, list):
            return described["type"] == "array" and all(allows(member, described["items"]) for member in value)
        kinds = {bool: "boolean", int: "integer", str: "string", float: "number"}
        return described["type"] == kinds[type(value)]

    document = tomllib.loads(WHOLE)
    assert allows(document, schema)
    document["sources"]["site"]["exlude"] = ["x"]
    assert not allows(document, schema)


def test_what_init_writes_is_a_configuration(tmp_path: Path) -> None:
    found = loaded(tmp_path, sample('/mnt/a"b', "command:pass show backup"))

    assert found.config.repos["main"].url == '/mnt/a"b'
    assert found.default_repo == "main"
    with pytest.raises(UsageError):
        sample("/mnt/backup", "hunter2")


def test_a_long_list_is_read_in_a_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = "".join(f'    "/srv/{number}/*.tmp",\n' for number in range(3000))
    text = f'[sources.site]\ntype = "files"\npaths = ["/srv"]\nexclude = [\n{patterns}]\nnope = 1\n'
    path = write(tmp_path / "config.toml", text)
    read: list[str] = []
    loads = tomllib.loads
    monkeypatch.setattr(tomllib, "loads", lambda text: read.append(text) or loads(text))

    _, found = examine(str(path), {})

    assert [each.place for each in found] == [f"{path}:3006"]
    assert len(read) < 20


@pytest.mark.parametrize(
    ("kind", "dsn", "said"),
    [
        ("postgresql", "postgresql://u:pa/ss@host/blog", "a password does not belong here"),
        ("postgresql", "postgresql://u:12345@host/blog", "a password does not belong here"),
        ("postgresql", "host=db user=u password = x", "a password does not belong here"),
        ("postgresql", "host=db dbname=blog", "not the address of a database of this type"),
        ("postgresql", "mysql://u@host/blog", "not the address of a database of this type"),
        ("mysql", "mysql://u@host:abc/blog", "not the address of a database"),
        ("mysql", "mysql://u@host:99999/blog", "not the address of a database"),
        ("mysql", "mysql://[::1/blog", "not the address of a database"),
        ("mysql", "mysql://u@host/bl%00og", "NUL"),
    ],
)
def test_an_address_that_is_none_is_told_and_what_may_be_a_password_is_not_repeated(
    tmp_path: Path, kind: str, dsn: str, said: str
) -> None:
    found = fault(tmp_path, f'[sources.db]\ntype = "{kind}"\ndsn = "{dsn}"\n')

    assert said in found.message
    assert "pa/ss" not in found.message and "12345" not in found.message


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u@h1:5432,h2:5432/blog", "postgresql://host:5432/a@b", "postgresql:///blog?host=/run/postgresql",
        "postgres://u@[::1]:5432/blog",
    ],
)  # fmt: skip
def test_addresses_that_the_programs_understand_are_taken(tmp_path: Path, dsn: str) -> None:
    assert loaded(tmp_path, f'[sources.db]\ntype = "postgresql"\ndsn = "{dsn}"\n').source("db")

"""`dedup config`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import click

from dedupstore.cli.command import group
from dedupstore.cli.creating import write_private
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import quoted, with_access
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.errors import Refused, UsageError
from dedupstore.service import config as service
from dedupstore.service import config_files, config_show, config_text
from dedupstore.units import format_number

_WRONG = 2
_LATER = ("replicas", "schedules", "verify", "alerts", "notify", "server")
"""Tables that are checked, for a daemon that is to come."""


@group("config", examples=["dedup config check", "dedup config show --origin", "dedup config init"])
def config() -> None:
    """Check and show the configuration.

    /etc/dedup/config.toml, /etc/dedup/conf.d/*.toml, ~/.config/dedup/config.toml and ~/.config/dedup/conf.d/*.toml are
    read in this order, and what is said later wins. -c FILE or DEDUP_CONFIG names another file instead.
    """


@config.command("check", examples=["dedup config check", "dedup config check -c ./config.toml"])
@click.pass_obj
def check(session: Session) -> int:
    """Read the configuration and tell everything that is wrong with it."""
    return _check(session)


def _check(session: Session) -> int:
    loaded, faults = service.examine(session.settings.config, session.environ)
    out = session.out
    files = [] if loaded is None else [str(path) for path in loaded.found.files]
    out.document(
        {
            "ok": not faults,
            "files": [safe(path) for path in files],
            "closed": [] if loaded is None else [safe(str(place)) for place in loaded.found.closed],
            "faults": [
                {
                    "code": fault.code,
                    "message": safe(fault.message),
                    "place": safe(fault.place),
                    "hint": safe(fault.hint),
                }
                for fault in faults
            ],
        }
    )
    for fault in faults:
        hint = f"; {fault.hint}" if fault.hint else ""
        out.line(f"{safe(fault.place)}: {safe(fault.message)}{safe(hint)}")
    if loaded is None:
        out.note(f"{format_number(len(faults), 'mistake')} (exit code {_WRONG})")
        return _WRONG
    made = loaded.config
    for path in files:
        out.line(f"  read     {safe(path)}")
    for place in loaded.found.closed:
        out.line(f"  not read {safe(str(place))}: permission denied")
    if not files:
        out.line("  read     nothing: there is no configuration")
        out.note("  to begin one: dedup config init")
    waiting = [name for name in _LATER if name in loaded.found.document]
    if waiting:
        out.line(f"  later    {', '.join(waiting)}: read, and not carried out by this version")
    counts = ((len(made.repos), "repository", "repositories"), (len(made.sources), "source", "sources"))
    out.line(f"  ok       {', '.join(f'{count} {one if count == 1 else many}' for count, one, many in counts)}")
    return 0


@config.command(
    "show", examples=["dedup config show", "dedup config show --origin", "dedup config show -r URL --snapshot latest"]
)
@click.option("--origin", is_flag=True, help="Say where each value is from, defaults too.")
@click.option("--snapshot", metavar="ID", help="The one a snapshot was made by, kept with it: on a new machine.")
@click.pass_obj
def show(session: Session, origin: bool, snapshot: str | None) -> None:
    """Show the configuration as it holds, all files together. Secrets are references, and addresses are hidden."""
    if snapshot is not None:
        _show_kept(session, snapshot)
        return
    loaded, out = session.configuration(), session.out
    found = config_show.values(loaded, session.environ, repo=session.settings.repo)
    shown = config_text.masked(loaded.found.document)
    out.document(
        {
            "files": [safe(str(path)) for path in loaded.found.files],
            "config": shown,
            "values": [
                {"key": safe(each.key), "value": safe(each.value), "origin": safe(each.origin)} for each in found
            ],
        }
    )
    if origin:
        rows = [(safe(each.key), safe(each.value), safe(each.origin)) for each in found]
        out.table(("KEY", "VALUE", "FROM"), rows)
    else:
        out.line(config_text.to_toml(shown).rstrip("\n"))


def _show_kept(session: Session, snapshot: str) -> None:
    # Loaded only now: nothing else here opens a repository.
    service_kept = import_module("dedupstore.service.kept")
    wanted = import_module("dedupstore.cli.selecting").selection(session, snapshot=snapshot)
    found = with_access(session, lambda access: service_kept.kept_config(access, wanted))
    session.out.document({"snapshot": snapshot_fields(session.out, found.snapshot), "text": found.text})
    session.out.line(found.text.rstrip("\n"))


@config.command("schema", examples=["dedup config schema > ~/.config/dedup/schema.json"])
@click.pass_obj
def schema(session: Session) -> None:
    """Print what may be in a configuration, as JSON Schema; editors complete and check by it."""
    described = config_show.schema()
    session.out.document(described)
    session.out.line(json.dumps(described, indent=2))


@config.command("init", examples=["dedup config init -r /mnt/backup", "dedup config init --print"])
@click.option("--print", "only_print", is_flag=True, help="Show it; write nothing.")
@click.option("--passphrase", metavar="REFERENCE", default="", help="Where the passphrase is: file:PATH, command:CMD.")
@click.pass_obj
def init(session: Session, only_print: bool, passphrase: str) -> None:
    """Write a configuration to begin with: to ~/.config/dedup/config.toml, to /etc/dedup as root, or to -c FILE."""
    url = session.settings.repo or "/mnt/backup"
    text = service.sample(url, passphrase or f"file:{_folder(session)}/passphrase")
    if only_print:
        session.out.document({"path": None, "text": text})
        session.out.line(text.rstrip("\n"))
        return
    path = _own_file(session)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        write_private(str(path), text)
    except FileExistsError as error:
        raise Refused(
            f"there is a configuration at {path}",
            why="nothing is overwritten",
            hints=["dedup config show", f"another place: dedup config init -c {quoted('./config.toml')}"],
            code="config.exists",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write {path}", why=error.strerror or "", code="config.unreadable") from error
    session.out.document({"path": safe(str(path)), "text": text})
    session.out.line(f"  written  {safe(str(path))}")
    session.out.note("  next: put your sources into it, then: dedup config check")


@config.command("edit", examples=["dedup config edit", "EDITOR=nano dedup config edit -c ./config.toml"])
@click.pass_obj
def edit(session: Session) -> int:
    """Open the configuration in $VISUAL or $EDITOR, then check it."""
    path = _own_file(session)
    if not path.exists():
        raise UsageError(f"there is no configuration at {path}", hints=["dedup config init"], code="config.unreadable")
    environ = session.environ
    editor = environ.get("VISUAL") or environ.get("EDITOR") or "vi"
    # A person's editor may be a command with arguments of its own.
    command = [*import_module("shlex").split(editor), str(path)]
    try:
        code = import_module("subprocess").run(command, check=False).returncode
    except OSError as error:
        raise UsageError(
            f"cannot start the editor {safe(editor)}", why=error.strerror or "", hints=["export EDITOR=nano"]
        ) from error
    if code:
        raise UsageError(f"the editor ended with exit code {code}", hints=["look: dedup config check"])
    return _check(session)


def _own_file(session: Session) -> Path:
    """The file that `init` writes: the one named by -c, or in the folder of whoever runs this."""
    named = session.settings.config
    path = Path(named).expanduser() if named else _folder(session)
    return path if named and not path.is_dir() else path / config_files.FILE


def _folder(session: Session) -> Path:
    return config_files.own_folder(session.environ)

"""Making a repository: from `dedup init`, and from the first snapshot."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module

import click

from dedupstore.cli import consent, prompts
from dedupstore.cli.opening import access_to, repeated, require_same, require_there, written_credential
from dedupstore.cli.session import Place, Session
from dedupstore.errors import RepositoryNotFound, StoreMissing
from dedupstore.service import repository as service
from dedupstore.service.access import Access, Credential
from dedupstore.service.repository import Created, InitRequest


def create(session: Session, place: Place, request: InitRequest | None = None) -> tuple[Access, Created, str]:
    """A new repository, the way into it, and the file its recovery kit was saved to (empty: could not be saved).

    `request` says how; its access is filled in here.
    """
    credential, generated = _first_credential(session, place)
    access = access_to(session, place, credential)
    made = service.create(InitRequest(access=access) if request is None else replace(request, access=access))
    if generated:
        # The one moment it is shown: whoever asked for it sits at this terminal.
        session.out.to_stderr(f"  passphrase  {generated}   <- write it down now; it is kept nowhere\n")
    return access, made, save_kit(session, made.kit, f"dedup-recovery-{made.short}.txt")


def _first_credential(session: Session, place: Place) -> tuple[Credential, str]:
    """What is to open the new repository, and the passphrase that was generated for it, if one was."""
    written = written_credential(session, place)
    given = prompts.new_passphrase_given(session)
    if written is not None:
        if given is not None:
            require_same(place, Credential(passphrase=given), written)
        return written, ""
    passphrase = given if given is not None else prompts.new_passphrase(session, may_generate=True)
    if passphrase is not None:
        return Credential(passphrase=passphrase), ""
    generated = service.generate_passphrase()
    return Credential(passphrase=generated.encode()), generated


def create_if_missing(session: Session, place: Place, *, init: bool) -> tuple[Access, Created, str] | None:
    """A repository for a first snapshot, when there is none and the person agrees; None when there is one."""
    try:
        require_there(session, place)
    except (RepositoryNotFound, StoreMissing) as error:
        if not init:
            if not session.can_ask:
                first = f"create it with the first snapshot: dedup snapshot --init{repeated(session)} PATH"
                error.hints = (first, *error.hints[:1])
                raise
            session.out.note(f"No repository at {place.url} yet.")
            if not consent.confirm(session, "Create an encrypted one here?", default=True):
                raise
            access, made, kit_path = create(session, place)
            _write_default(session, place)
            return access, made, kit_path
        return create(session, place)
    return None


def _write_default(session: Session, place: Place) -> None:
    """Write the first repository down as the default, where a person has made it and there is no configuration yet."""
    found = session.configuration().found
    if place.name or session.settings.config or found.files or found.closed:
        return
    service_config = import_module("dedupstore.service.config")
    path, text = service_config.first_configuration(place.url, session.environ)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_private(path, text)
    except OSError as error:
        session.out.note(f"  the repository could not be written to {path}: {error.strerror}")
        return
    session.out.note(f"  default  repository written to {path}")


def tell(session: Session, made: Created, kit_path: str) -> None:
    """What was made, for people; the caller tells programs."""
    out = session.out
    if out.json:
        return
    out.line(f"  created  repository {made.short} at {made.url}")
    if kit_path:
        out.line(f"  saved    recovery kit to {kit_path}   <- print it, keep it away from this machine")


def save_kit(session: Session, text: str, name: str) -> str:
    """Write a recovery kit into the current directory, for its owner only; never over another file."""
    try:
        return write_private(f"./{name}", text)
    except OSError as error:
        session.out.warning(
            f"the recovery kit could not be saved to ./{name}: {error.strerror}; print it with: dedup key kit",
            code="key.kit_not_saved",
        )
        return ""


def write_private(path: str, text: str) -> str:
    """The path of a new file with mode 0600. Raises FileExistsError rather than overwrite anything."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return path


def read_kit(path: str) -> str:
    """The text of a recovery kit a user names; `-` is standard input."""
    try:
        with click.open_file(path, encoding="utf-8", errors="replace") as file:
            return str(file.read(1 << 20))
    except OSError as error:
        raise click.FileError(path, error.strerror or "") from error

"""The way from a session to an open repository: where it is, what opens it, and a second try for a mistyped passphrase."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from dedupstore.cli import prompts
from dedupstore.cli.session import REPO, Place, Session
from dedupstore.cli.store_options import options_at
from dedupstore.errors import DedupError, Refused, WrongPassphrase
from dedupstore.service import access as service
from dedupstore.service import secrets
from dedupstore.service.access import Access, Credential

Answer = TypeVar("Answer")

_LOOKED_AT_ONCE = ("DEDUP_KEY_FILE", "DEDUP_RECOVERY_KEY_FILE", "DEDUP_PASSPHRASE_COMMAND", "DEDUP_PASSPHRASE_FD")


def begin_deriving(session: Session) -> None:
    """Begin with the key of the repository that this call names: what is loaded and checked meanwhile costs no time.

    Only where call and environment say it all, and it can be read twice: nobody is asked, no command is run, no
    configuration read. Not over a network, where requests are counted. Nothing is told of what goes wrong here:
    `with_access` meets it again, in its turn.
    """
    named, environ = session.settings.repo, session.environ
    if not named or named.startswith(REPO) or "://" in named or session.settings.at_store_time:
        return
    if any(environ.get(name) for name in _LOOKED_AT_ONCE):
        return
    try:
        found = secrets.passphrase(environ)
        if found is None:
            return
        begun = access_to(session, Place(named), Credential(passphrase=found.value)).started()
    except DedupError:
        return
    session.begun = begun
    if begun.repository is not None:
        session.found[named] = begun.repository


def with_access(session: Session, work: Callable[[Access], Answer], *, trusting: bool = False) -> Answer:
    """Do the work with the repository of this session; `trusting` when it may be older, or another, than is known here.

    Whether there is a repository is found out before anyone is asked for a passphrase. On a terminal a wrong
    passphrase may be typed again; `work` is started anew, so it opens the repository before it does anything else.
    The key is already being derived when `work` is called: what it loads by then costs no time.
    """
    place = session.require_place()
    require_there(session, place, None if trusting else session.environ)

    def opened(credential: Credential) -> Answer:
        return work(replace(access_to(session, place, credential), trusting=trusting).started(session.begun))

    return with_credential(session, opened, place)


def require_there(session: Session, place: Place, environ: Mapping[str, str] | None = None) -> None:
    """Raise RepositoryNotFound, and with `environ` Refused for another one than is known here; asks storage once a call."""
    session.found[place.url] = service.found_repository(place.url, environ, known=session.found.get(place.url))


def with_credential(session: Session, work: Callable[[Credential], Answer], place: Place | None = None) -> Answer:
    """Do the work with what environment or configuration give, or with what is typed, up to three times."""
    given = credential_of(session, place)
    if given is not None:
        return work(given)
    for left in range(prompts.MAX_TRIES - 1, -1, -1):
        try:
            return work(Credential(passphrase=prompts.passphrase(session)))
        except WrongPassphrase as error:
            if not left:
                raise
            session.out.note(error.message)
    raise AssertionError("unreachable")


def credential_of(session: Session, place: Place | None, environ: Mapping[str, str] | None = None) -> Credential | None:
    """What opens a repository without asking anyone; None: someone is asked.

    The environment wins against the configuration, but two passphrases that differ are refused: a variable that was
    meant for another repository must not take the place of what is written down for this one.
    """
    given = from_environment(session, environ)
    if place is None or (given is not None and given.passphrase is None):
        return given
    # Whoever names both the place and what opens it needs no configuration.
    written = None if given is not None and not place.name else written_credential(session, place)
    if given is None or written is None:
        return written if given is None else given
    require_same(place, given, written)
    return given


def opened(session: Session, place: Place) -> Access:
    """The way into one of several repositories, proven by opening it once; asks up to three times on a terminal."""
    require_there(session, place)
    given = credential_of(session, place)
    if given is not None:
        return proven(session, place, given)
    for left in range(prompts.MAX_TRIES - 1, -1, -1):
        try:
            return proven(session, place, Credential(passphrase=prompts.passphrase(session, of=place.url)))
        except WrongPassphrase as error:
            if not left:
                raise
            session.out.note(error.message)
    raise AssertionError("unreachable")


def proven(session: Session, place: Place, credential: Credential) -> Access:
    """An access that is known to open its repository. Raises WrongPassphrase, which names the place."""
    access = access_to(session, place, credential).started(session.begun)
    try:
        access.open_keys().store.close()
    except WrongPassphrase as error:
        error.message = f"{error.message} ({place.url})"
        raise
    return access


def written_credential(session: Session, place: Place) -> Credential | None:
    """What the configuration says of what opens that repository, if it knows it."""
    configuration = session.configuration()
    name = place.name or configuration.repo_at(place.url)
    if not name:
        return None
    repo = configuration.repo(name)
    if repo.key_file is not None:
        found = secrets.key_file({"DEDUP_KEY_FILE": repo.key_file})
        assert found is not None
        session.out.findings(found.findings)
        return Credential(key_file=found.value)
    if repo.passphrase is None:
        return None
    found = secrets.resolve(repo.passphrase, session.environ)
    session.out.findings(found.findings)
    return Credential(passphrase=found.value)


def require_same(place: Place, given: Credential, written: Credential) -> None:
    """Raise Refused for a passphrase of the environment that is not the one of the configuration."""
    if written.passphrase is None or given.passphrase == written.passphrase:
        return
    name = place.name or place.url
    raise Refused(
        f'two passphrases are given for the repository "{name}", and they differ',
        why="the environment (DEDUP_PASSPHRASE and its kin) gives another one than the configuration",
        hints=["unset DEDUP_PASSPHRASE DEDUP_PASSPHRASE_FILE DEDUP_PASSPHRASE_COMMAND", "dedup config show --origin"],
        code="config.passphrase_conflict",
    )


def from_environment(session: Session, environ: Mapping[str, str] | None = None) -> Credential | None:
    """A key file, a recovery key or a passphrase that the environment names, in this order; None: someone is asked."""
    given = session.environ if environ is None else environ
    for find, kind in (
        (secrets.key_file, "key_file"),
        (secrets.recovery_key, "recovery_key"),
        (secrets.passphrase, "passphrase"),
    ):
        found = find(given)
        if found is None:
            continue
        session.out.findings(found.findings)
        if kind == "key_file":
            return Credential(key_file=found.value)
        return Credential(recovery_key=found.text) if kind == "recovery_key" else Credential(passphrase=found.value)
    return None


def access_to(session: Session, place: Place, credential: Credential) -> Access:
    access = Access(
        url=place.url,
        credential=credential,
        clock=session.clock,
        environ=session.environ,
        note=lambda finding: session.out.findings([finding]),
        repository=session.found.get(place.url),
        options=options_at(session, place),
    )
    repo = session.repo_at(place)
    return access if repo is None else replace(access, kept_bytes=repo.base_cache)


def repeated(session: Session) -> str:
    """` -r URL` and ` -c FILE` for a command line we suggest, when the environment does not already say them."""
    settings, environ = session.settings, session.environ
    given = (
        (" -r", settings.repo, "DEDUP_REPO"),
        (" -c", settings.config, "DEDUP_CONFIG"),
        (" --at-store-time", settings.at_store_time, "DEDUP_AT_STORE_TIME"),
    )
    return "".join(f"{flag} {quoted(text)}" for flag, text, name in given if text and text != environ.get(name))


def quoted(text: str) -> str:
    """As a shell wants it. `shlex` would load more than it saves."""
    plain = all(letter.isalnum() or letter in "-_./:~@%+=," for letter in text)
    return text if text and plain else "'" + text.replace("'", "'\\''") + "'"


def path_argument(text: str) -> bytes:
    """The bytes of a path as the shell gave them."""
    return os.fsencode(text)

"""Passphrases and other secrets, from where a user keeps them: variable, file, command, descriptor.

A secret never travels in an argument or a URL. It is named by a reference (`file:/etc/dedup/pass`,
`command:pass show backup`, `systemd:NAME`, `keyring:NAME`, `env:NAME`) or by one of the variables

    DEDUP_PASSPHRASE   DEDUP_PASSPHRASE_FILE   DEDUP_PASSPHRASE_COMMAND   DEDUP_PASSPHRASE_FD

of which the first that is set wins. Asking a person is the door's work, not done here.
"""

from __future__ import annotations

import os
import shlex
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module

from dedupstore.errors import Refused, UsageError
from dedupstore.events import Finding
from dedupstore.sources.environment import child_environment

MAX_SECRET_BYTES = 64 << 10
COMMAND_TIMEOUT_SECONDS = 120.0
"""Long enough to touch a token or to type into a pinentry."""

# Container runtimes put secrets there with mode 0444 or 0644, in a mount only the container sees.
_PRIVATE_MOUNTS = ("/run/secrets/", "/var/run/secrets/", "/run/credentials/")
_PASSPHRASE = "DEDUP_PASSPHRASE"
_NEW_PASSPHRASE = "DEDUP_NEW_PASSPHRASE"
_TO_PASSPHRASE = "DEDUP_TO_PASSPHRASE"
_DATABASE_PASSWORD = "DEDUP_DATABASE_PASSWORD"
_STORAGE = ("AWS_", "OSS_", "TENCENTCLOUD_")
_PASSED = "DEDUP_PASS_ENVIRONMENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret's bytes (text as NFC UTF-8), where it came from, and what was odd about the place."""

    value: bytes
    origin: str
    findings: tuple[Finding, ...] = ()

    @property
    def text(self) -> str:
        return self.value.decode("utf-8")

    def __repr__(self) -> str:
        return f"Secret(origin={self.origin!r})"


def passphrase(environ: Mapping[str, str], *, timeout_seconds: float = COMMAND_TIMEOUT_SECONDS) -> Secret | None:
    """The passphrase the environment names, or None when it names none and someone must be asked."""
    return _from_variables(environ, _PASSPHRASE, timeout_seconds)


def new_passphrase(environ: Mapping[str, str], *, timeout_seconds: float = COMMAND_TIMEOUT_SECONDS) -> Secret | None:
    """The passphrase a new repository or key slot gets: `DEDUP_NEW_PASSPHRASE` or `…_FILE`, `…_COMMAND`, `…_FD`."""
    return _from_variables(environ, _NEW_PASSPHRASE, timeout_seconds)


def database_password(environ: Mapping[str, str], *, timeout_seconds: float = COMMAND_TIMEOUT_SECONDS) -> Secret | None:
    """The password of a database that is named by its address: `DEDUP_DATABASE_PASSWORD` or `…_FILE`, `…_COMMAND`, `…_FD`."""
    return _from_variables(environ, _DATABASE_PASSWORD, timeout_seconds)


def names_new_passphrase(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a new passphrase; it is not looked at."""
    return any(environ.get(_NEW_PASSPHRASE + end) for end in ("", "_FILE", "_COMMAND", "_FD"))


def resolve(reference: str, environ: Mapping[str, str], *, timeout_seconds: float = COMMAND_TIMEOUT_SECONDS) -> Secret:
    """The secret a configuration value refers to. The value itself is never taken for a secret."""
    scheme, separator, rest = reference.partition(":")
    if not separator or not rest or scheme not in ("file", "env", "command", "systemd", "keyring"):
        # The text may be a secret written in the wrong place, so it is not repeated.
        raise UsageError(
            "not a reference to a secret",
            why="a secret is never written into the configuration itself",
            hints=["write file:PATH, env:NAME, command:COMMAND, systemd:NAME or keyring:NAME"],
            code="config.secret_reference",
        )
    if scheme == "file":
        return _from_file(rest, reference)
    if scheme == "env":
        if rest not in environ:
            raise UsageError(f"the variable {rest} is not set", hints=[f"export {rest}=…"], code="secret.unset")
        return _secret(environ[rest].encode("utf-8", "surrogateescape"), reference)
    if scheme == "command":
        return _from_command(rest, environ, reference, timeout_seconds)
    if scheme == "keyring":
        return _from_command(f"keyring get dedup {shlex.quote(rest)}", environ, reference, timeout_seconds)
    return _from_systemd(rest, environ, reference)


def key_file(environ: Mapping[str, str]) -> Secret | None:
    """The bytes of the key file that `DEDUP_KEY_FILE` names. Unlike text, they are taken exactly as they are."""
    path = environ.get("DEDUP_KEY_FILE")
    return _from_file(path, "DEDUP_KEY_FILE", binary=True) if path else None


def recovery_key(environ: Mapping[str, str]) -> Secret | None:
    """The recovery key, or the recovery kit, in the file that `DEDUP_RECOVERY_KEY_FILE` names."""
    path = environ.get("DEDUP_RECOVERY_KEY_FILE")
    return _from_file(path, "DEDUP_RECOVERY_KEY_FILE") if path else None


def of_target(
    environ: Mapping[str, str], *, passphrase_file: str = "", passphrase_command: str = "", key_file: str = ""
) -> dict[str, str]:
    """The environment as the target of a copy sees it: `DEDUP_TO_…` is what `DEDUP_…` is for the source.

    What is given here wins. The secrets of the source are not among it: two repositories may well be opened by the same
    passphrase, but that has to be said.
    """
    given = {
        _PASSPHRASE: environ.get(_TO_PASSPHRASE, ""),
        f"{_PASSPHRASE}_FILE": environ.get(f"{_TO_PASSPHRASE}_FILE", ""),
        f"{_PASSPHRASE}_COMMAND": environ.get(f"{_TO_PASSPHRASE}_COMMAND", ""),
        f"{_PASSPHRASE}_FD": environ.get(f"{_TO_PASSPHRASE}_FD", ""),
        "DEDUP_KEY_FILE": environ.get("DEDUP_TO_KEY_FILE", ""),
        "DEDUP_RECOVERY_KEY_FILE": environ.get("DEDUP_TO_RECOVERY_KEY_FILE", ""),
    }
    chosen = {
        f"{_PASSPHRASE}_FILE": passphrase_file,
        f"{_PASSPHRASE}_COMMAND": passphrase_command,
        "DEDUP_KEY_FILE": key_file,
    }
    if any(chosen.values()):
        given = dict.fromkeys(given, "") | chosen
    return {**environ, **given}


def bare_environment(environ: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """The same for hooks, and commands that print a secret: also without what opens the storage.

    They have nothing to do with the repository. `named`: variables of storage that they get all the same, beside those
    that `DEDUP_PASS_ENVIRONMENT` has, with spaces between them.
    """
    passed = {*named, *environ.get(_PASSED, "").split()}
    ours = child_environment(environ)
    return {name: value for name, value in ours.items() if name in passed or not name.startswith(_STORAGE)}


def how_to_give(variable: str = _PASSPHRASE) -> tuple[str, ...]:
    """The lines to add when nobody can be asked."""
    return (f"export {variable}_FILE=/etc/dedup/passphrase", f"export {variable}_COMMAND='pass show backup'")


def normalized(text: str) -> bytes:
    """A typed passphrase as bytes: NFC UTF-8, so that every keyboard types the same."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")


def _from_variables(environ: Mapping[str, str], name: str, timeout_seconds: float) -> Secret | None:
    # A variable set to nothing counts as not set: a unit file that clears it means just that.
    if value := environ.get(name):
        return _secret(value.encode("utf-8", "surrogateescape"), name)
    if path := environ.get(f"{name}_FILE"):
        return _from_file(path, f"{name}_FILE")
    if command := environ.get(f"{name}_COMMAND"):
        return _from_command(command, environ, f"{name}_COMMAND", timeout_seconds)
    if number := environ.get(f"{name}_FD"):
        return _from_descriptor(number, f"{name}_FD")
    return None


def _secret(raw: bytes, origin: str, findings: tuple[Finding, ...] = ()) -> Secret:
    """The secret without the one line end an editor or `echo` adds."""
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not raw:
        raise UsageError(f"{origin} gives an empty secret", code="secret.empty")
    if len(raw) > MAX_SECRET_BYTES:
        raise UsageError(f"{origin} gives more than {MAX_SECRET_BYTES} bytes", code="secret.too_long")
    try:
        value = normalized(raw.decode())
    except UnicodeDecodeError as exc:
        # The exception holds the secret; it must not become this one's context.
        del exc
        value = b""
    if not value:
        raise UsageError(f"{origin} does not give UTF-8 text", code="secret.not_text")
    return Secret(value=value, origin=origin, findings=findings)


def _from_file(path: str, origin: str, *, binary: bool = False) -> Secret:
    path = os.path.expanduser(path)
    try:
        # Not blocking: a FIFO without a writer would hang here for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise UsageError(
            f"cannot read the secret file {path}", why=str(exc.strerror), code="secret.unreadable"
        ) from exc
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISFIFO(found.st_mode):
            raise UsageError(f"{path} is not a file", code="secret.unreadable")
        findings = _judge_mode(path, found)
        os.set_blocking(descriptor, True)
        raw = _read_descriptor(descriptor)
        if binary and 0 < len(raw) <= MAX_SECRET_BYTES:
            return Secret(value=raw, origin=origin, findings=findings)
        return _secret(raw, origin, findings)
    finally:
        os.close(descriptor)


def _read_descriptor(descriptor: int) -> bytes:
    """Everything up to the end, or a little more than a secret may have."""
    collected = bytearray()
    while len(collected) <= MAX_SECRET_BYTES + 2 and (block := os.read(descriptor, 1 << 16)):
        collected += block
    return bytes(collected)


def _judge_mode(path: str, found: os.stat_result) -> tuple[Finding, ...]:
    """Refuse what everybody can read or others can change; warn of what the group can read."""
    if os.path.realpath(path).startswith(_PRIVATE_MOUNTS):
        return ()
    chmod = f"chmod 600 {shlex.quote(path)}"
    if found.st_mode & 0o026:
        what = "everybody can read it" if found.st_mode & 0o004 else "others can change it"
        raise Refused(f"the secret file {path} is not private", why=what, hints=[chmod], code="secret.file_not_private")
    if found.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise Refused(
            f"the secret file {path} belongs to another user",
            why=f"its owner (uid {found.st_uid}) can change it",
            hints=[f"chown {os.geteuid()} {shlex.quote(path)}"],
            code="secret.file_not_private",
        )
    if found.st_mode & 0o040:
        message = f"its group can read the secret file {path}; to keep it private: {chmod}"
        return (Finding(code="secret.file_group_readable", message=message, path=os.fsencode(path), severity="note"),)
    return ()


def _from_systemd(name: str, environ: Mapping[str, str], origin: str) -> Secret:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory is None or "/" in name or name in (".", ".."):
        raise UsageError(
            f"no credential {name!r} from systemd",
            why="the program was not started by a unit with credentials" if directory is None else "not a name",
            hints=[f"add to the unit: LoadCredential={name}:/etc/dedup/passphrase"],
            code="secret.unset",
        )
    return _from_file(os.path.join(directory, name), origin)


def _from_descriptor(text: str, origin: str) -> Secret:
    """Read to the end and close, so that no child inherits what is left."""
    try:
        descriptor = int(text)
        raw = _read_descriptor(descriptor)
        os.close(descriptor)
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(
            f"{origin}={text} is not an open file descriptor",
            hints=[f"{origin}=3 dedup … 3</etc/dedup/passphrase"],
            code="secret.unreadable",
        ) from exc
    return _secret(raw, origin)


def _from_command(command: str, environ: Mapping[str, str], origin: str, timeout_seconds: float) -> Secret:
    # Loaded only now: most secrets come from a variable or a file.
    running = import_module("dedupstore.service.secret_command")
    # A little more than a secret may have, so that one that is too long is told from one that is cut.
    most = MAX_SECRET_BYTES + len(b"\r\n")
    raw: bytes = running.output(
        command, bare_environment(environ), origin, timeout_seconds=timeout_seconds, at_most_bytes=most
    )
    return _secret(raw, origin)

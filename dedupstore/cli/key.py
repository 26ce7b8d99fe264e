"""`dedup key`: passphrases, key files, recovery keys and the recovery kit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import click

from dedupstore.cli import consent, prompts
from dedupstore.cli.command import group
from dedupstore.cli.creating import read_kit, write_private
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import repeated, with_access, with_credential
from dedupstore.cli.rekey import rekey
from dedupstore.cli.session import Session
from dedupstore.errors import Refused, UsageError
from dedupstore.service import access as opening
from dedupstore.service import keys as service
from dedupstore.service import secrets
from dedupstore.service.access import Access, Credential
from dedupstore.units import format_number

_SHORT = 8

Answer = TypeVar("Answer")


_key_file_option = click.option(
    "--key-file", metavar="FILE", default="", help="A file of random bytes, instead of a new passphrase."
)
_kdf_option = click.option(
    "--kdf", type=click.Choice(("default", "strong")), default="default", help="What a guess costs."
)
_weak_option = click.option("--insecure-test-kdf", is_flag=True, hidden=True)


@group("key", examples=["dedup key list", "dedup key change", "dedup key kit > kit.txt", "dedup key rotate"])
def key() -> None:
    """Add, change, list and remove what opens a repository; the recovery kit; new keys for what is written.

    Instead of a passphrase, DEDUP_KEY_FILE or DEDUP_RECOVERY_KEY_FILE may name a file that opens the repository.
    """


key.add_command(rekey)


@key.command("list", examples=["dedup key list"])
@click.pass_obj
def list_(session: Session) -> None:
    """List what opens the repository."""
    found = with_access(session, service.list_keys)
    out = session.out
    out.document({"keys": [_fields(session, row) for row in found]})
    out.table(
        ("ID", "OPENED BY", "LABEL", "MADE", "STATE"),
        [
            (
                row.id[:_SHORT],
                row.kind,
                safe(row.label or ""),
                out.minute(row.created_ns),
                {True: "in use", False: "of an earlier epoch", None: "altered"}[row.current],
            )
            for row in found
        ],
    )


@key.command(
    "add",
    examples=["dedup key add --label laptop", "dedup key add --key-file /etc/dedup/key", "dedup key add --kit kit.txt"],
)
@click.option("--label", metavar="TEXT", default="", help="What to call it.")
@_key_file_option
@click.option("--recovery", is_flag=True, help="Add a new recovery key, and print it with its kit.")
@click.option(
    "--kit", "kit_path", metavar="FILE", default="", help="Put back the key of a recovery kit; - reads it from stdin."
)
@_kdf_option
@_weak_option
@click.pass_obj
def add(
    session: Session, label: str, key_file: str, recovery: bool, kit_path: str, kdf: str, insecure_test_kdf: bool
) -> None:
    """Add another way to open the repository: a passphrase, a key file, a recovery key.

    The new passphrase is asked for, or taken from DEDUP_NEW_PASSPHRASE or DEDUP_NEW_PASSPHRASE_FILE, _COMMAND, _FD.
    """
    if sum((bool(key_file), recovery, bool(kit_path))) > 1:
        raise UsageError("--key-file, --recovery and --kit exclude one another", hints=["choose one"])
    _refuse_weak(session, insecure_test_kdf)
    if kit_path:
        _import(session, kit_path)
        return
    if recovery:
        _show_kit(
            session,
            with_access(session, lambda access: service.add_recovery_key(access, label=label or "recovery key")),
        )
        return
    strong = kdf == "strong"

    def work(access: Access, new: Credential) -> service.Added:
        return service.add_key(access, new, label=label, strong=strong, weak=insecure_test_kdf)

    added = _with_new(session, key_file, work)
    session.out.document({"key": _fields(session, added.key)})
    session.out.line(f"  added    {_named(added.key)}")


@key.command("remove", examples=["dedup key remove 4kq2m8r0"])
@click.argument("identifier", metavar="ID")
@click.pass_obj
def remove(session: Session, identifier: str) -> None:
    """Remove one way to open the repository; never the last.

    Who has copied the key's object from storage before can still use it.
    """

    def agree(found: service.KeyInfo) -> None:
        if not consent.confirm(session, f"Remove the key {_named(found)}?"):
            raise _not_confirmed()

    removed = with_access(session, lambda access: service.remove_key(access, identifier, agree))
    session.out.document({"removed": _fields(session, removed)})
    session.out.line(f"  removed  {_named(removed)}")


@key.command(
    "change", examples=["dedup key change", "dedup key change --key-file /etc/dedup/key", "dedup key change 4kq2m8r0"]
)
@click.argument("identifier", metavar="[ID]", required=False, default="")
@_key_file_option
@_kdf_option
@_weak_option
@click.pass_obj
def change(session: Session, identifier: str, key_file: str, kdf: str, insecure_test_kdf: bool) -> None:
    """Change the passphrase: a new one takes the place of the one that opens the repository now, or of the key ID.

    The new passphrase is asked for, or taken from DEDUP_NEW_PASSPHRASE or DEDUP_NEW_PASSPHRASE_FILE, _COMMAND, _FD. It
    has opened the repository before the old one goes. Recovery kits printed before go on opening by the old one.

    Who knows the old passphrase and has copied the key's object from storage before can still use both; dedup key rotate
    ends that for what is written afterwards.
    """
    _refuse_weak(session, insecure_test_kdf)

    def work(access: Access, new: Credential) -> service.Replaced:
        return service.change_key(access, new, prefix=identifier, strong=kdf == "strong", weak=insecure_test_kdf)

    done = _with_new(session, key_file, work)
    _show_replaced(session, done)
    if not done.left:
        session.out.note(f"  next: dedup key kit{repeated(session)} prints a recovery kit for the new key")


@key.command("rotate", examples=["dedup key rotate", "dedup key rotate --new-passphrase"])
@click.option("--new-passphrase", "ask", is_flag=True, help="Ask for a new passphrase for the new keys.")
@_key_file_option
@click.option("--take-over", is_flag=True, help="Go on although another rotation was begun: it was stopped for good.")
@_kdf_option
@_weak_option
@click.pass_obj
def rotate(session: Session, ask: bool, key_file: str, take_over: bool, kdf: str, insecure_test_kdf: bool) -> None:
    """Write under new keys from now on, which nobody has who had any key before.

    The new keys are opened by the passphrase or key file in use, by a new passphrase (--new-passphrase, or
    DEDUP_NEW_PASSPHRASE and its kin), or by --key-file; every other key is removed and has to be added again. What is
    stored already stays readable, also for somebody who has copied an old key and gets at the storage: dedup key rekey
    writes it again. Runs under way go on; they end under the old keys.
    """
    _refuse_weak(session, insecure_test_kdf)
    if not consent.confirm(session, "Begin with new keys, and remove every key but the one in use?"):
        raise _not_confirmed()
    strong = kdf == "strong"

    def work(access: Access, new: Credential | None) -> service.Replaced:
        return service.rotate_keys(access, new, strong=strong, weak=insecure_test_kdf, take_over=take_over)

    if ask or key_file or secrets.names_new_passphrase(session.environ):
        done = _with_new(session, key_file, work)
    else:
        done = with_access(session, lambda access: work(access, None))
    _show_replaced(session, done, epoch=done.epoch)
    session.out.note(
        f"  next: dedup key kit{repeated(session)} prints a recovery kit; the ones there were are out of date"
    )


@key.command("kit", examples=["dedup key kit", "dedup key kit --out kit.txt", "dedup key kit --recovery --out kit.txt"])
@click.option("--out", "path", metavar="FILE", default="", help="Write it to a new file, readable by you only.")
@click.option(
    "--recovery", is_flag=True, help="Make a recovery key and print it on the kit: whoever holds it can read all."
)
@click.pass_obj
def kit(session: Session, path: str, recovery: bool) -> None:
    """Print the recovery kit: with it the repository opens again when its own keys are lost.

    It needs the passphrase, too, unless it was made with --recovery.
    """
    if recovery:
        _show_kit(session, with_access(session, service.add_recovery_key), path)
        return
    text = with_access(session, service.kit)
    session.out.document({"kit": text, "saved": path or None})
    _deliver(session, text, path)


@key.command("verify-recovery", examples=["dedup key verify-recovery kit.txt"])
@click.argument("path", metavar="FILE")
@click.option("--offline", is_flag=True, help="Only unwrap the key; do not look at the repository.")
@click.pass_obj
def verify_recovery(session: Session, path: str, offline: bool) -> None:
    """Prove that a recovery kit opens the repository, by opening it with nothing else."""
    text = read_kit(path)
    needed = service.needed_for(text)
    url = None if offline else session.repository_url() or service.kit_location(text)
    if url is not None:
        opening.require_repository(url)
    allow_weak = opening.weak_keys_allowed(session.environ)

    def work(credential: Credential | None) -> service.Verified:
        return service.verify_kit(text, credential, url, allow_weak=allow_weak)

    found = with_credential(session, work) if needed else work(None)
    out = session.out
    out.document(dataclasses.asdict(found))
    out.line(f"  kit      of repository {found.repository[:4]}-{found.repository[4:8]}, key {found.slot[:_SHORT]}")
    how = f"opened by its {found.kind}" if needed else "opened by the recovery key printed on it"
    out.line(f"  unwrapped: {how}")
    if found.snapshots is not None:
        out.line(
            f"  proven   it opens the repository as it is today: {format_number(found.snapshots, 'snapshot')} can be read"
        )


def _with_new(session: Session, key_file: str, work: Callable[[Access, Credential], Answer]) -> Answer:
    """Do the work with a new passphrase or key file, asked for once the repository was opened by what is there already."""
    new: list[Credential] = []

    def both(access: Access) -> Answer:
        if not new:
            service.list_keys(access)
            new.append(_new_credential(session, key_file))
        return work(access, new[0])

    return with_access(session, both)


def _refuse_weak(session: Session, asked: bool) -> None:
    if asked and not opening.weak_keys_allowed(session.environ):
        raise UsageError("--insecure-test-kdf is for the tests of dedup", hints=["leave it out"])


def _not_confirmed() -> Refused:
    return Refused(
        "not confirmed", why="nothing was changed", hints=["add --yes to agree"], code="refused.not_confirmed"
    )


def _show_replaced(session: Session, done: service.Replaced, *, epoch: int | None = None) -> None:
    out = session.out
    document: dict[str, object] = {
        "key": _fields(session, done.key),
        "removed": [_fields(session, row) for row in done.removed],
        "left": [_fields(session, row) for row in done.left],
    }
    if epoch is not None:
        document["epoch"] = epoch
    out.document(document)
    if epoch is not None:
        out.line(f"  epoch    {epoch}: what is written from now on needs a key from now on")
    out.line(f"  added    {_named(done.key)}")
    for row in done.removed:
        out.line(f"  removed  {_named(row)}")
    for row in done.left:
        out.line(f"  left     {_named(row)}: the storage does not allow deleting it")


def _named(row: service.KeyInfo) -> str:
    return f"{row.kind} {row.id[:_SHORT]} {safe(row.label or '')}".rstrip()


def _new_credential(session: Session, key_file: str) -> Credential:
    if key_file:
        found = secrets.key_file({"DEDUP_KEY_FILE": key_file})
        assert found is not None
        session.out.findings(found.findings)
        return Credential(key_file=found.value)
    return Credential(passphrase=prompts.added_passphrase(session))


def _import(session: Session, path: str) -> None:
    url = session.require_repository_url()
    slot = service.import_kit(url, read_kit(path))
    session.out.document({"key": {"id": slot}})
    session.out.line(f"  added    the key {slot[:_SHORT]} of the recovery kit")
    session.out.note(f"  next: dedup snapshots{repeated(session)}")


def _show_kit(session: Session, added: service.Added, path: str = "") -> None:
    out = session.out
    # Asked for on purpose: this is the one moment at which the key is shown.
    document: dict[str, object] = {"key": _fields(session, added.key), "saved": path or None}
    if not path:
        document |= {"recovery_key": added.recovery_key, "kit": added.kit}
    out.document(document)
    _deliver(session, added.kit, path)
    out.note("  it opens the repository without the passphrase: keep it as you keep a passport")


def _deliver(session: Session, text: str, path: str) -> None:
    if not path:
        session.out.line(text.rstrip())
        return
    try:
        write_private(path, text)
    except FileExistsError:
        raise Refused(
            f"{path} exists already", why="a recovery kit replaces no file", hints=["choose another name"]
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}", why=error.strerror or "") from error
    session.out.line(f"  saved    recovery kit to {path}   <- print it, keep it away from this machine")


def _fields(session: Session, row: service.KeyInfo) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": row.kind,
        "label": None if row.label is None else safe(row.label),
        "created": session.out.timestamp(row.created_ns),
        "memory_kib": row.memory_kib,
        "iterations": row.iterations,
        "current": row.current,
    }

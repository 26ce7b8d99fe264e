"""`dedup init`."""

from __future__ import annotations

import click

from dedupstore.cli.command import command
from dedupstore.cli.creating import create, tell
from dedupstore.cli.opening import repeated
from dedupstore.cli.session import Session
from dedupstore.errors import UsageError
from dedupstore.service import access as opening
from dedupstore.service import repository as service
from dedupstore.units import parse_size

KDF = ("default", "strong")


@command(
    "init",
    examples=[
        "dedup init -r /mnt/backup",
        "DEDUP_PASSPHRASE_FILE=/etc/dedup/passphrase dedup init -r /mnt/backup --kdf strong",
    ],
)
@click.option(
    "--chunk-size", metavar="SIZE", default="64KiB", help="Average chunk: 4KiB to 4MiB, a power of two; fixed for ever."
)
@click.option("--pack-size", metavar="SIZE", default="", help="Size of a full pack; larger means fewer objects.")
@click.option(
    "--kdf", type=click.Choice(KDF), default=KDF[0], help="What a guess of the passphrase costs: 0.2 s, or 0.7 s."
)
@click.option("--insecure-test-kdf", is_flag=True, hidden=True)
@click.pass_obj
def init(session: Session, chunk_size: str, pack_size: str, kdf: str, insecure_test_kdf: bool) -> None:
    """Create an encrypted repository.

    Asks for a passphrase, or takes it from DEDUP_NEW_PASSPHRASE… or DEDUP_PASSPHRASE…, and saves a recovery kit to
    the current directory. The first `dedup snapshot` offers the same.
    """
    if insecure_test_kdf and not opening.weak_keys_allowed(session.environ):
        raise UsageError("--insecure-test-kdf is for the tests of dedup", hints=["leave it out"])
    place = session.require_place()
    request = service.InitRequest(
        access=opening.nowhere(place.url, session.clock, session.environ),
        chunk=parse_size(chunk_size),
        pack=parse_size(pack_size) if pack_size else 0,
        strong_kdf=kdf == "strong",
        weak_kdf_for_tests=insecure_test_kdf,
    )
    _, made, kit_path = create(session, place, request)
    session.out.document({"id": made.id, "url": made.url, "key": made.slot, "recovery_kit": kit_path or None})
    tell(session, made, kit_path)
    session.out.note(f"  next: dedup snapshot{repeated(session)} PATH")

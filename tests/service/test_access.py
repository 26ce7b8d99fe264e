"""Whoever starts opening a repository early is told the same as whoever does not, and not a word sooner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.codec import crypto
from dedupstore.errors import DedupError
from dedupstore.repo import layout
from dedupstore.repo.config import Features, find_config, put_config
from dedupstore.repo.repository import Repository
from dedupstore.repo.slot_header import parse_header
from dedupstore.repo.slots import Secret
from dedupstore.service.access import Access, Credential
from dedupstore.service.opened import open_repository
from dedupstore.storage.local import LocalStore
from dedupstore.types import RepositoryId
from tests.support.keys import OTHER_REPOSITORY, fixed_ring, weak_slot
from tests.support.repositories import SMALL

RIGHT = Credential(passphrase=b"correct horse")
CLOCK = FrozenClock(1_790_000_000_000_000_000)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository."""
    path = tmp_path / "repository"
    secret = Secret.passphrase("correct horse")
    store = LocalStore.create(str(path))
    Repository.create(store, secret, SMALL, clock=CLOCK, cache_path=None)[0].close()
    return path


def access(place: Path, credential: Credential = RIGHT) -> Access:
    cache = place.parent / "cache"
    environ = {"DEDUP_TEST_WEAK_KDF": "1", "DEDUP_CACHE_DIR": str(cache)}
    return Access(url=str(place), credential=credential, clock=CLOCK, environ=environ)


def slot_of(place: Path) -> Path:
    (slot,) = (path for path in (place / "keys").iterdir() if path.name not in ("-begin", "zz-end"))
    return slot


def write(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def gone(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))


def newer_format(place: Path) -> None:
    write(place / "FORMAT", (place / "FORMAT").read_bytes().replace(b"dedupstore 1", b"dedupstore 2"))


def newer_slot(place: Path) -> None:
    slot = slot_of(place)
    write(slot, slot.read_bytes().replace(b"DDKEY1", b"DDKEY2"))


def newer_config(place: Path) -> None:
    """A config that asks for a feature nobody here knows."""
    opened = access(place).open_keys()
    asking = replace(opened.config, features=Features(read=("telepathy",)))
    put_config(opened.store, opened.keyring, asking, number=find_config(opened.store).number + 1)
    opened.store.close()


def no_config(place: Path) -> None:
    for path in (place / "config").iterdir():
        if path.name not in ("-begin", "zz-end"):
            path.unlink()


def foreign_slot(place: Path) -> None:
    slot = weak_slot(fixed_ring(OTHER_REPOSITORY))
    slot_of(place).unlink()
    (place / layout.slot_key(parse_header(slot).slot_id)).write_bytes(slot)


def no_slot(place: Path) -> None:
    slot_of(place).unlink()


def keys_not_listed(place: Path) -> None:
    (place / "keys" / "zz-end").unlink()


def nothing(place: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "credential", "code"),
    [
        (nothing, Credential(passphrase=b"wrong"), "repo.wrong_passphrase"),
        (nothing, Credential(passphrase=b"\xff"), "usage.passphrase_encoding"),
        (nothing, Credential(passphrase=b"x" * 5000), "usage"),
        (nothing, Credential(key_file=b"k" * 64), "repo.wrong_passphrase"),
        (nothing, Credential(), "usage.no_passphrase"),
        (gone, RIGHT, "repo.not_found"),
        (newer_format, RIGHT, "repo.too_new"),
        (newer_slot, RIGHT, "repo.too_new"),
        (newer_config, RIGHT, "repo.too_new"),
        (no_config, RIGHT, "repo.corrupt_object"),
        (no_config, Credential(passphrase=b"wrong"), "repo.corrupt_object"),
        (foreign_slot, RIGHT, "repo.foreign_slot"),
        (no_slot, RIGHT, "repo.no_slots"),
        (keys_not_listed, RIGHT, "store.incomplete_listing"),
    ],
)
def test_an_early_start_changes_no_error(
    place: Path, damage: Callable[[Path], None], credential: Credential, code: str
) -> None:
    damage(place)
    way_in = access(place, credential)
    with pytest.raises(DedupError) as late:
        way_in.open_keys()

    started = way_in.started()

    for opening in (started.open_keys, lambda: open_repository(started)):
        with pytest.raises(DedupError) as early:
            opening()
        assert type(early.value) is type(late.value)
        assert early.value.code == late.value.code == code
        assert (early.value.message, early.value.why, early.value.hints) == (
            late.value.message,
            late.value.why,
            late.value.hints,
        )


def test_an_early_start_opens_with_one_derivation(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    real = crypto.argon2id

    def noted(*arguments: object, **named: object) -> bytes:
        threads.append(threading.current_thread())
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(crypto, "argon2id", noted)
    started = access(place).started()

    assert started.open_keys().catalog.snapshots().snapshots == ()
    with open_repository(started) as repository:
        assert repository.id == started.open_keys().keyring.repository
    (thread,) = threads
    assert thread is not threading.current_thread()


def test_a_key_begun_for_another_repository_is_not_taken(place: Path, tmp_path: Path) -> None:
    begun = access(place).started()
    here = replace(access(place), repository=begun.repository)

    assert here.started(begun).secret is begun.secret
    for other in (
        replace(here, url=str(tmp_path)),
        replace(here, credential=Credential(passphrase=b"another")),
        replace(here, repository=RepositoryId(bytes(16))),
    ):
        assert other.started(begun).secret is not begun.secret

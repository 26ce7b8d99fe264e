"""One key slot: what opens it, what is refused, and what storage cannot make us do."""

from __future__ import annotations

import struct
import threading
import traceback
import unicodedata

import pytest

from dedupstore.codec import crypto
from dedupstore.errors import (
    CorruptObject,
    DedupError,
    Refused,
    RepositoryError,
    RepositoryTooNew,
    UsageError,
    WrongPassphrase,
)
from dedupstore.repo.slot_header import SLOT_LENGTH, KdfCost, parse_header
from dedupstore.repo.slots import (
    DEFAULT_COST,
    STRONG_COST,
    Secret,
    SlotSecrets,
    check_cost,
    derive_ahead,
    open_label,
    open_slot_bytes,
    seal_slot,
    weak_cost_allowed,
)
from dedupstore.units import GIB, KIB, MIB
from tests.support.keys import CREATED_NS, OTHER_REPOSITORY, REPOSITORY, WEAK, fixed_ring, weak_slot

RING = fixed_ring()
SLOT = weak_slot(RING)
RIGHT = Secret.passphrase("correct horse")
SECRET_WORDS = ("correct horse", RING.domain.hex(), RING.masters[1].hex(), repr(RING.domain), repr(RING.masters[1]))


def open_weak(slot: bytes, secret: Secret = RIGHT) -> SlotSecrets:
    return open_slot_bytes(slot, secret, repository=REPOSITORY, allow_weak=True)


def seal(secret: Secret, *, cost: KdfCost = DEFAULT_COST) -> bytes:
    return seal_slot(secret, RING.secrets(), repository=REPOSITORY, created_ns=CREATED_NS, cost=cost)


def with_cost(memory_kib: int, iterations: int, lanes: int, *, flags: int = 0) -> bytes:
    """The slot as storage could rewrite it."""
    return SLOT[:9] + bytes((flags,)) + SLOT[10:50] + struct.pack(">III", memory_kib, iterations, lanes) + SLOT[62:]


def test_the_right_passphrase_gives_the_secrets_back():
    assert open_weak(SLOT) == RING.secrets()
    assert len(SLOT) == SLOT_LENGTH


def test_a_slot_at_production_cost_opens():
    assert open_slot_bytes(seal(RIGHT), RIGHT, repository=REPOSITORY) == RING.secrets()


def test_a_key_file_and_a_recovery_key_open_their_slots_without_a_kdf():
    for secret in (Secret.key_file(b"k" * 100), Secret.recovery(b"r" * 32)):
        slot = seal(secret)

        assert open_slot_bytes(slot, secret, repository=REPOSITORY) == RING.secrets()
        assert not parse_header(slot).needs_kdf


def test_any_flipped_byte_says_what_a_wrong_passphrase_says():
    with pytest.raises(WrongPassphrase) as wrong:
        open_weak(SLOT, Secret.passphrase("correct hors"))

    # Magic, kind, flags, repository and cost have messages of their own; the rest must not differ.
    for position in [*range(26, 50), *range(62, SLOT_LENGTH)]:
        damaged = bytearray(SLOT)
        damaged[position] ^= 1
        with pytest.raises(WrongPassphrase) as altered:
            open_weak(bytes(damaged))
        assert (altered.value.message, altered.value.code, altered.value.why) == (
            wrong.value.message,
            wrong.value.code,
            wrong.value.why,
        )


def test_no_flipped_byte_of_the_fixed_part_opens():
    for position in [*range(26), *range(50, 62)]:
        damaged = bytearray(SLOT)
        damaged[position] ^= 1
        with pytest.raises((DedupError, ValueError)):
            open_weak(bytes(damaged))


def test_two_slots_of_one_passphrase_share_no_bytes_past_the_fixed_part():
    other = weak_slot(RING, seed="other")

    assert SLOT[94:] != other[94:]
    assert SLOT[94:126] != other[94:126]


def test_a_slot_of_another_repository_is_named_as_such():
    with pytest.raises(CorruptObject, match="another repository"):
        open_slot_bytes(SLOT, RIGHT, repository=OTHER_REPOSITORY, allow_weak=True)


@pytest.mark.parametrize(
    ("memory_kib", "iterations", "lanes"),
    [
        (8, 3, 4),
        (64 * KIB - 1, 3, 4),
        (0, 0, 0),
        (4 * GIB - 1, 3, 4),
        (2 * MIB + 1, 3, 4),
        (64 * KIB, 0, 4),
        (64 * KIB, 1 << 30, 4),
        (64 * KIB, 3, 0),
        (64 * KIB, 3, 4096),
    ],
)
def test_a_cost_outside_the_range_is_refused_before_it_is_paid(monkeypatch, memory_kib, iterations, lanes):
    def never(*arguments: object, **named: object) -> bytes:
        raise AssertionError("storage said what a guess costs, and it was paid")

    slot = with_cost(memory_kib, iterations, lanes)
    monkeypatch.setattr(crypto, "argon2id", never)
    with pytest.raises(RepositoryError, match="cost"):
        derive_ahead(slot, RIGHT, repository=REPOSITORY)

    with pytest.raises(RepositoryError, match="outside the allowed range"):
        open_slot_bytes(slot, RIGHT, repository=REPOSITORY, allow_weak=True)


def test_a_cost_beyond_half_of_the_memory_is_refused():
    check_cost(STRONG_COST, allow_weak=False, memory_bytes=512 * MIB)

    with pytest.raises(RepositoryError, match="outside the allowed range"):
        check_cost(STRONG_COST, allow_weak=False, memory_bytes=511 * MIB)


def test_the_test_cost_is_neither_made_nor_opened_in_production():
    with pytest.raises(Refused, match="tests only"):
        seal(RIGHT, cost=WEAK)
    with pytest.raises(Refused, match="tests only"):
        open_slot_bytes(SLOT, RIGHT, repository=REPOSITORY)
    with pytest.raises(RepositoryError):
        seal(RIGHT, cost=KdfCost(memory_kib=64, iterations=1, lanes=1))


def test_the_test_flag_admits_one_profile_only():
    slot = with_cost(8, 1, 1, flags=1)

    with pytest.raises(RepositoryError, match="outside the allowed range"):
        open_weak(slot)


def test_a_production_slot_relabelled_as_a_test_slot_does_not_open():
    strong = seal(RIGHT)
    relabelled = strong[:9] + b"\1" + strong[10:50] + struct.pack(">III", 64, 1, 1) + strong[62:]

    with pytest.raises(Refused):
        open_slot_bytes(relabelled, RIGHT, repository=REPOSITORY)
    with pytest.raises(WrongPassphrase):
        open_weak(relabelled)


def test_only_the_exact_variable_marks_a_test_run():
    assert weak_cost_allowed({"DEDUP_TEST_WEAK_KDF": "1"})
    assert not weak_cost_allowed({"DEDUP_TEST_WEAK_KDF": "true"})
    assert not weak_cost_allowed({})


@pytest.mark.parametrize("content", [b"", SLOT[:-1], SLOT + b"\0", b"\0" * SLOT_LENGTH, b"x" * 10**6])
def test_what_is_no_slot_says_so(content):
    with pytest.raises(CorruptObject, match="not a key slot"):
        parse_header(content)


@pytest.mark.parametrize(("position", "value"), [(5, ord("2")), (8, 0), (8, 9), (9, 2), (9, 0x81)])
def test_an_unknown_version_kind_or_flag_says_newer(position, value):
    slot = bytearray(SLOT)
    slot[position] = value

    with pytest.raises(RepositoryTooNew):
        parse_header(bytes(slot))


def test_both_unicode_forms_of_a_passphrase_open():
    composed = "caf\u00e9 \u5b89\u5168"
    decomposed = unicodedata.normalize("NFD", composed)
    slot = weak_slot(RING, decomposed)

    assert composed != decomposed
    assert open_weak(slot, Secret.passphrase(composed)) == open_weak(slot, Secret.passphrase(decomposed))


def test_an_empty_passphrase_needs_to_be_meant():
    with pytest.raises(UsageError, match="empty"):
        Secret.passphrase("")

    assert Secret.passphrase("", allow_empty=True).material == b""


@pytest.mark.parametrize("text", ["bad \udc80 byte", "x" * 5000])
def test_a_passphrase_that_is_no_text_is_refused_without_repeating_it(text):
    with pytest.raises(UsageError) as caught:
        Secret.passphrase(text)

    assert text[:5] not in "".join(traceback.format_exception(caught.value)).replace("test_", "")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("length", [0, 31, MIB + 1])
def test_a_key_file_of_a_silly_size_is_refused(length):
    with pytest.raises(UsageError, match="not a key file"):
        Secret.key_file(bytes(length))


def test_the_label_is_sealed_and_readable_with_the_domain_secret():
    label = open_label(SLOT, RING.domain)

    assert label is not None and (label.text, label.epoch) == ("laptop", 1)
    assert b"laptop" not in SLOT
    assert open_label(SLOT, bytes(32)) is None


def test_a_label_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="too long"):
        weak_slot(RING, label="\u5b89" * 21)


def test_no_secret_shows_in_a_repr():
    shown = repr(RIGHT) + repr(RING) + str(RING) + repr(RING.secrets()) + repr(parse_header(SLOT)) + repr(RING.id_key)

    assert not [word for word in SECRET_WORDS if word in shown]


def test_a_failed_unwrap_carries_no_secret_in_its_traceback():
    with pytest.raises(WrongPassphrase) as caught:
        open_weak(SLOT, Secret.passphrase("battery staple"))

    text = "".join(traceback.format_exception(caught.value))
    assert "During handling" not in text
    assert "\nbattery" not in text


def test_the_commitment_comes_before_decryption(monkeypatch):
    def never(*arguments: object) -> None:
        raise AssertionError("decrypted under an uncommitted key")

    monkeypatch.setattr(crypto, "AESGCM", never)

    with pytest.raises(WrongPassphrase):
        open_weak(SLOT, Secret.passphrase("battery staple"))


@pytest.fixture
def derivations(monkeypatch) -> list[threading.Thread]:
    """Where each derivation of a key has run, in order."""
    threads = []
    real = crypto.argon2id

    def noted(*arguments, **named):
        threads.append(threading.current_thread())
        return real(*arguments, **named)

    monkeypatch.setattr(crypto, "argon2id", noted)
    return threads


def ahead(slot: bytes, secret: Secret = RIGHT) -> Secret:
    return derive_ahead(slot, secret, repository=REPOSITORY, allow_weak=True)


def test_a_key_derived_ahead_is_derived_once_and_not_here(derivations):
    secret = ahead(SLOT)

    assert open_weak(SLOT, secret) == open_weak(SLOT, secret) == RING.secrets()
    (thread,) = derivations
    assert thread is not threading.current_thread()


def test_a_key_derived_ahead_is_used_for_no_other_slot(derivations):
    other, dearer = weak_slot(RING, seed="other"), with_cost(128, 1, 1, flags=1)
    secret = ahead(SLOT)
    assert open_weak(SLOT, secret) == RING.secrets()
    derivations.clear()

    assert open_weak(other, secret) == RING.secrets()
    assert derivations == [threading.current_thread()]
    with pytest.raises(RepositoryError, match="cost"):
        open_weak(dearer, secret)
    with pytest.raises(WrongPassphrase):
        open_weak(other, ahead(SLOT, Secret.passphrase("wrong")))


def test_a_wrong_passphrase_derived_ahead_says_what_it_always_says():
    wrong = Secret.passphrase("wrong")
    with pytest.raises(WrongPassphrase) as late:
        open_weak(SLOT, wrong)
    with pytest.raises(WrongPassphrase) as early:
        open_weak(SLOT, ahead(SLOT, wrong))

    assert str(early.value) == str(late.value)
    assert (early.value.why, early.value.code) == (late.value.why, late.value.code)


def test_what_goes_wrong_in_the_other_thread_is_raised_at_the_opening(monkeypatch):
    def no_memory(*arguments, **named):
        raise MemoryError

    monkeypatch.setattr(crypto, "argon2id", no_memory)
    secret = ahead(SLOT)

    with pytest.raises(RepositoryError, match="cost") as caught:
        open_weak(SLOT, secret)
    assert caught.value.code == "repo.slot_cost"


def test_a_slot_of_another_kind_or_repository_is_not_begun(derivations):
    with pytest.raises(CorruptObject, match="another repository"):
        derive_ahead(SLOT, RIGHT, repository=OTHER_REPOSITORY, allow_weak=True)
    with pytest.raises(Refused, match="tests only"):
        derive_ahead(SLOT, RIGHT, repository=REPOSITORY)

    assert derivations == []


def test_a_strong_secret_needs_nothing_ahead(derivations):
    secret = Secret.key_file(b"k" * 100)
    slot = seal(secret)

    assert open_weak(slot, ahead(slot, secret)) == RING.secrets()
    assert derivations == []


def test_a_secret_with_a_key_ahead_shows_none_of_it():
    secret = ahead(SLOT)

    assert secret == RIGHT
    assert repr(secret) == repr(RIGHT)

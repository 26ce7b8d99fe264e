"""Recovery keys and kits: readable by tired people, useless to finders, proven to unwrap."""

from __future__ import annotations

import re

import pytest

from dedupstore.errors import CorruptObject, IntegrityError, UsageError, WrongPassphrase
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.keys import create_slot, import_slot, open_slot, read_slot
from dedupstore.repo.recovery import (
    RecoveryKit,
    format_kit,
    format_recovery_key,
    generate_recovery_key,
    parse_kit,
    parse_recovery_key,
    verify_recovery,
)
from dedupstore.repo.slot_header import SlotKind
from dedupstore.repo.slots import Secret, seal_slot
from tests.support.keys import (
    CREATED_NS,
    OTHER_REPOSITORY,
    REPOSITORY,
    FixedRandom,
    fixed_ring,
    store_with_sentinels,
    weak_slot,
)

KEY = FixedRandom("recovery")(32)
RING = fixed_ring()
PASSPHRASE = Secret.passphrase("correct horse")


def recovery_slot(ring: KeyRing = RING) -> bytes:
    return seal_slot(Secret.recovery(KEY), ring.secrets(), repository=REPOSITORY, created_ns=CREATED_NS)


def kit(slot: bytes | None = None, *, recovery_key: bytes | None = None) -> RecoveryKit:
    return RecoveryKit(
        location="s3://bucket/prod?region=eu-1",
        repository=REPOSITORY,
        slot=slot or weak_slot(RING),
        recovery_key=recovery_key,
    )


def test_a_recovery_key_is_fourteen_groups_without_look_alikes():
    text = format_recovery_key(KEY)

    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}\n(\w{4}-){6}\w{4}", text)
    assert parse_recovery_key(text) == KEY


def test_generated_keys_differ_and_come_back():
    keys = {generate_recovery_key() for _ in range(50)}

    assert len(keys) == 50
    assert all(parse_recovery_key(format_recovery_key(key)) == key for key in keys)


def test_a_recovery_key_may_be_typed_carelessly():
    text = format_recovery_key(KEY)

    assert parse_recovery_key(text.lower().replace("-", " ")) == KEY
    assert parse_recovery_key(text.replace("0", "O").replace("1", "l").replace("-", "")) == KEY


def test_every_single_wrong_character_is_noticed():
    text = format_recovery_key(KEY).replace("\n", "-")

    for position, right in enumerate(text):
        for wrong in "0123456789ABCDEFGHJKMNPQRSTVWXYZU?":
            if right != "-" and wrong != right:
                with pytest.raises(UsageError, match="not a valid recovery key"):
                    parse_recovery_key(text[:position] + wrong + text[position + 1 :])


@pytest.mark.parametrize(
    "change", [lambda text: text[1:], lambda text: text + "0", lambda text: "", lambda text: text[::-1]]
)
def test_missing_added_and_reversed_characters_are_noticed(change):
    with pytest.raises(UsageError):
        parse_recovery_key(change(format_recovery_key(KEY)))


def test_swapped_neighbours_are_noticed():
    letters = format_recovery_key(KEY).replace("-", "").replace("\n", "")

    for position in range(len(letters) - 1):
        swapped = letters[:position] + letters[position + 1] + letters[position] + letters[position + 2 :]
        if swapped != letters:
            with pytest.raises(UsageError):
                parse_recovery_key(swapped)


def test_a_kit_holds_the_slot_and_no_secret():
    text = format_kit(kit())

    assert parse_kit(text) == kit()
    assert parse_kit(text).kind is SlotKind.PASSPHRASE
    assert parse_kit(text).secret is None
    for secret in ("correct horse", "recovery key:", RING.domain.hex(), RING.masters[1].hex()):
        assert secret not in text
    assert re.findall(r"^  (\d)\. ", text, re.MULTILINE) == list("123456")
    assert "s3://bucket/prod?region=eu-1" in text
    assert max(map(len, text.splitlines())) < 100


def test_a_kit_may_be_retyped_with_other_breaks():
    text = format_kit(kit()).replace("\n", "\r\n   ")

    assert parse_kit(text) == kit()


def test_a_kit_with_its_recovery_key_opens_by_itself():
    text = format_kit(kit(recovery_slot(), recovery_key=KEY))
    parsed = parse_kit(text)

    assert parsed.secret == Secret.recovery(KEY)
    assert verify_recovery(parsed, parsed.secret).secrets() == RING.secrets()
    assert "lock it away" in text
    assert KEY.hex() not in repr(parsed) and repr(KEY) not in repr(parsed)


def test_every_wrong_character_inside_the_slot_is_noticed():
    text = format_kit(kit())
    start = text.index("BEGIN DEDUP KEY SLOT") + len("BEGIN DEDUP KEY SLOT-----\n")

    for position in range(start, start + 64 * 3):
        if text[position] != "\n":
            wrong = "A" if text[position] != "A" else "B"
            with pytest.raises(UsageError, match="not a recovery kit"):
                parse_kit(text[:position] + wrong + text[position + 1 :])


@pytest.mark.parametrize("text", ["", "hello", "x" * 10**6, format_kit(kit()).replace("END", "ENT")])
def test_what_is_no_kit_says_so(text):
    with pytest.raises(UsageError, match="not a recovery kit"):
        parse_kit(text)


def test_a_kit_that_names_another_repository_than_its_slot_is_refused():
    text = format_kit(kit()).replace(REPOSITORY.hex(), OTHER_REPOSITORY.hex())

    with pytest.raises(UsageError, match="not a recovery kit"):
        parse_kit(text)


def test_verification_really_unwraps():
    text = format_kit(kit())

    ring = verify_recovery(parse_kit(text), PASSPHRASE, opened=RING, allow_weak=True)

    assert ring.secrets() == RING.secrets()
    with pytest.raises(WrongPassphrase):
        verify_recovery(parse_kit(text), Secret.passphrase("battery staple"), allow_weak=True)
    with pytest.raises(UsageError, match="opens by its passphrase"):
        verify_recovery(parse_kit(text), Secret.recovery(KEY))


def test_a_kit_from_before_a_rotation_is_reported():
    with pytest.raises(IntegrityError, match="out of date") as caught:
        verify_recovery(kit(), PASSPHRASE, opened=RING.next_epoch(), allow_weak=True)

    assert caught.value.code == "key.kit_outdated"


def test_a_kit_for_another_repository_is_reported():
    with pytest.raises(CorruptObject, match="another repository"):
        verify_recovery(kit(), PASSPHRASE, opened=fixed_ring(OTHER_REPOSITORY), allow_weak=True)


def test_a_bare_machine_opens_the_repository_from_the_kit_alone():
    store = store_with_sentinels()
    made = create_slot(store, RING, Secret.recovery(KEY), created_ns=CREATED_NS, label="paper")
    text = format_kit(kit(read_slot(store, made.slot_id)))
    emptied = store_with_sentinels()

    import_slot(emptied, parse_kit(text).slot, repository=REPOSITORY)
    ring = open_slot(emptied, REPOSITORY, Secret.recovery(parse_recovery_key(format_recovery_key(KEY))))

    assert ring.secrets() == RING.secrets()

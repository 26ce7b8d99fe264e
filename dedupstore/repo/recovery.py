"""Recovery keys on paper and the recovery kit: what opens the repository when the passphrase is gone.

A recovery key is 32 random bytes and a 3-byte check, printed as 14 groups of 4 characters. The kit is a page of text with a
slot's bytes in it; together with the slot's secret and the storage it restores everything on an empty machine.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from dedupstore.codec import crypto
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject, IntegrityError, UsageError
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.slot_header import SlotKind, parse_header
from dedupstore.repo.slots import Secret, open_slot_bytes
from dedupstore.types import RepositoryId
from dedupstore.units import format_id

# Crockford's base 32: no I, L, O (read as 1, 1, 0) and no U.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DECODE = {letter: value for value, letter in enumerate(_ALPHABET)} | {"I": 1, "L": 1, "O": 0}
_CHECK_LENGTH = 3
_CHECK_CONTEXT = b"dedupstore/v1/recovery-key-check"
_LETTERS = (crypto.KEY_LENGTH + _CHECK_LENGTH) * 8 // 5
_GROUP = 4
_GROUPS_PER_LINE = 7

_BEGIN = "-----BEGIN DEDUP KEY SLOT-----"
_END = "-----END DEDUP KEY SLOT-----"
_ARMOR = re.compile(re.escape(_BEGIN) + r"(.*?)" + re.escape(_END), re.DOTALL)
_FIELD = re.compile(r"^\s*(repository|location|slot check|recovery key):[ \t]*(.*)$", re.MULTILINE)
_ARMOR_WIDTH = 64
_MAX_KIT_LENGTH = 64 * 1024


def generate_recovery_key(*, random: crypto.RandomSource = crypto.random_bytes) -> bytes:
    return random(crypto.KEY_LENGTH)


def format_recovery_key(key: bytes) -> str:
    """The printed form, two lines of seven groups: `4KQ2-M8T0-…`."""
    number = int.from_bytes(key + _check(key), "big")
    letters = "".join(_ALPHABET[number >> 5 * place & 31] for place in range(_LETTERS - 1, -1, -1))
    groups = [letters[start : start + _GROUP] for start in range(0, _LETTERS, _GROUP)]
    return "\n".join("-".join(groups[row : row + _GROUPS_PER_LINE]) for row in range(0, len(groups), _GROUPS_PER_LINE))


def parse_recovery_key(text: str) -> bytes:
    """The 32 bytes, from any spacing and case. A wrong character is noticed here, before any slot is tried."""
    letters = re.sub(r"[\s-]+", "", text).upper()
    if len(letters) != _LETTERS:
        raise _not_a_recovery_key(f"it has {len(letters)} characters, not {_LETTERS}")
    number = 0
    for place, letter in enumerate(letters):
        value = _DECODE.get(letter)
        if value is None:
            raise _not_a_recovery_key(f"character {place + 1} is none that occurs in one")
        number = number << 5 | value
    data = number.to_bytes(crypto.KEY_LENGTH + _CHECK_LENGTH, "big")
    key = data[: crypto.KEY_LENGTH]
    if not crypto.equal(data[crypto.KEY_LENGTH :], _check(key)):
        raise _not_a_recovery_key("its checksum does not match: at least one character is wrong")
    return key


def _check(key: bytes) -> bytes:
    return digest((_CHECK_CONTEXT, key))[:_CHECK_LENGTH]


def _not_a_recovery_key(why: str) -> UsageError:
    return UsageError(
        "not a valid recovery key", why=why, hints=["compare it with the paper"], code="usage.recovery_key"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryKit:
    """What a kit's text says. `recovery_key` is there only when the kit was printed with it."""

    location: str
    repository: RepositoryId
    slot: bytes
    recovery_key: bytes | None = field(default=None, repr=False)

    @property
    def kind(self) -> SlotKind:
        """What opens the slot in the kit."""
        return parse_header(self.slot).kind

    @property
    def secret(self) -> Secret | None:
        """What opens the slot, if it is printed on the kit itself."""
        return None if self.recovery_key is None else Secret.recovery(self.recovery_key)


def format_kit(kit: RecoveryKit) -> str:
    """The page to print. Never holds a passphrase; holds the recovery key only if `kit` does."""
    header = parse_header(kit.slot)
    armor = base64.b64encode(kit.slot).decode("ascii")
    lines = [
        "DEDUP RECOVERY KIT -- print it, and keep it away from the machine it protects",
        "",
        f"  location:     {_one_line(kit.location)}",
        f"  repository:   {kit.repository.hex()}",
        f"  key slot:     {format_id(header.slot_id)}, opened by the {header.kind.noun}",
        f"  slot check:   {_slot_check(kit.slot)}",
    ]
    if kit.recovery_key is not None:
        lines += [f"  recovery key: {format_recovery_key(kit.recovery_key).replace(chr(10), '-')}"]
    lines += [
        "",
        _BEGIN,
        *(armor[start : start + _ARMOR_WIDTH] for start in range(0, len(armor), _ARMOR_WIDTH)),
        _END,
        "",
    ]
    lines += [f"  {number}. {step}" for number, step in enumerate(_how_to(kit, header.kind), 1)]
    return "\n".join(lines) + "\n"


def _how_to(kit: RecoveryKit, kind: SlotKind) -> Sequence[str]:
    if kit.recovery_key is not None:
        needed = "Whoever has this page and the storage reads everything: lock it away like a passport."
    else:
        needed = f"This page alone opens nothing: the {kind.noun} is kept elsewhere, you need both."
    return (
        needed,
        "On any machine: pipx install dedupstore",
        f"See what is there: dedup snapshots -r {_one_line(kit.location)}",
        f"Get it back: dedup restore --to ./restored -r {_one_line(kit.location)}",
        "If the repository has lost its keys, give it this one: dedup key add --kit THIS-FILE",
        "Once a year: dedup key verify-recovery THIS-FILE",
    )


def parse_kit(text: str) -> RecoveryKit:
    """A kit from its text, also typed from paper: line breaks and spaces inside the slot do not matter."""
    if len(text) > _MAX_KIT_LENGTH:
        raise _not_a_kit("it is too long")
    armor = _ARMOR.search(text)
    fields = {match[1]: match[2].strip() for match in _FIELD.finditer(text)}
    if armor is None or not {"location", "repository", "slot check"} <= fields.keys():
        raise _not_a_kit("its key slot, location or repository line is missing")
    try:
        slot = base64.b64decode(re.sub(r"\s+", "", armor[1]), validate=True)
        repository = RepositoryId(bytes.fromhex(fields["repository"]))
    except (binascii.Error, ValueError) as exc:
        raise _not_a_kit(str(exc)) from exc
    if _slot_check(slot) != fields["slot check"].lower():
        raise _not_a_kit("the key slot does not match its check: at least one character is wrong")
    if parse_header(slot).repository != repository:
        raise _not_a_kit("its key slot belongs to another repository")
    printed = fields.get("recovery key")
    return RecoveryKit(
        location=fields["location"],
        repository=repository,
        slot=slot,
        recovery_key=None if printed is None else parse_recovery_key(printed),
    )


def verify_recovery(
    kit: RecoveryKit, secret: Secret, *, opened: KeyRing | None = None, allow_weak: bool = False
) -> KeyRing:
    """Unwrap the kit's slot for real, and compare with the repository's `opened` ring when there is one.

    Raises WrongPassphrase when the secret does not open it; IntegrityError `key.kit_outdated` when the kit
    opens, but not what the repository is written under today.
    """
    if kit.kind is not secret.kind:
        raise UsageError(f"this kit opens by its {kit.kind.noun}, not by a {secret.kind.noun}")
    secrets = open_slot_bytes(kit.slot, secret, repository=kit.repository, allow_weak=allow_weak)
    ring = KeyRing.from_secrets(kit.repository, secrets)
    if opened is None:
        return ring
    if opened.repository != ring.repository:
        raise CorruptObject("the recovery kit is for another repository", why=f"it is for {ring.repository.hex()}")
    now = opened.secrets()
    if not (crypto.equal(now.master, secrets.master) and crypto.equal(now.domain, secrets.domain)):
        raise IntegrityError(
            "the recovery kit is out of date",
            why=f"it opens epoch {secrets.epoch}; the repository is at epoch {now.epoch}",
            hints=["print a new one: dedup key kit"],
            code="key.kit_outdated",
        )
    return ring


def _slot_check(slot: bytes) -> str:
    return digest((slot,)).hex()[:12]


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _not_a_kit(why: str) -> UsageError:
    return UsageError(
        "not a recovery kit", why=why, hints=["compare it with the printed page"], code="usage.recovery_kit"
    )

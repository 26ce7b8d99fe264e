"""Text for sizes, identifiers, counts and untrusted names, and back."""

from __future__ import annotations

import re

from dedupstore.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# Digits and letters without i, l, o (misread) and z: object names made of it sort below the
# closing sentinel "zz-end" of a listing.
_ALPHABET = "0123456789abcdefghjkmnpqrstuvwxy"
_DECODE = {letter: value for value, letter in enumerate(_ALPHABET)}
ID_LENGTH = 26

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgtpe]?)(i?)b?\s*$", re.IGNORECASE)


def format_id(identifier: bytes) -> str:
    """The 26 letters and digits that name a snapshot, from its 16 bytes."""
    value = int.from_bytes(identifier, "big") << 2
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def parse_id(text: str) -> bytes:
    """The 16 bytes named by a full 26-character id. Raises ValueError for anything else."""
    if len(text) != ID_LENGTH or any(letter not in _DECODE for letter in text):
        raise ValueError(f"not an id: {text!r}")
    value = 0
    for letter in text:
        value = value << 5 | _DECODE[letter]
    if value & 3:
        raise ValueError(f"not an id: {text!r}")
    return (value >> 2).to_bytes(16, "big")


def short_id(identifier: bytes) -> str:
    """What a user reads and types: the first six characters as `4kq2-m8`."""
    text = format_id(identifier)
    return f"{text[:4]}-{text[4:6]}"


def format_bytes(count: float) -> str:
    """Decimal units, three digits at most before the point: `318.4 MB`."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        count /= 1000
        if count < 999.95 or unit == "EB":
            return f"{count:.1f} {unit}"
    raise AssertionError("unreachable")


def parse_size(text: str) -> int:
    """Bytes from `2G`, `64KiB`, `500MB`, `1048576`. A bare letter and `i` mean powers of 1024."""
    match = _SIZE.match(text)
    if match is None:
        raise UsageError(f"not a size: {text!r}", hints=["write it as 500M, 2GiB or 1048576"])
    number, unit, binary = match.groups()
    decimal = not binary and text.strip().lower().endswith("b") and bool(unit)
    base = 1000 if decimal else 1024
    return int(float(number) * base ** " kmgtpe".index(unit.lower() or " "))


def format_count(count: int) -> str:
    """Thousands apart by a thin gap a terminal can show: `48 112`."""
    return f"{count:,}".replace(",", " ")


def format_number(count: int, noun: str) -> str:
    """A count and what is counted: `1 file`, `48 112 files`."""
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"


def format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def printable(name: bytes) -> str:
    """A name safe to print: control characters, escapes, direction marks and bad UTF-8 as \\x.. or \\u...."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    point = ord(letter)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"

"""What changed between old and new bytes that are mostly the same: a list of copies, and the bytes between them.

    script    = literal bytes u32, big-endian | literals | operations
    operation = literals taken | bytes copied, at least 1 | jump

The three numbers of an operation are varints of 5 bytes at most: 7 bits each, the lowest first, the highest bit set in all but
the last. It takes so many literals, then copies from the old bytes: from where the copy before it ended, plus the literals
taken, plus the jump (2 n for n, -2 n - 1 for n below zero). So a value that was overwritten in its place has the jump 0. What
is left of the literals comes last.

`make` is there only where the kernel was built; deltas are left to zstd without it. `apply_in_python` is what a script means.
"""

from __future__ import annotations

from collections.abc import Callable

from dedupstore.errors import CorruptObject
from dedupstore.types import Data

try:
    from dedupstore.codec import _patch
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

_HEAD = 4
_MAX_VARINT = 5


def make_patch(new: Data, old: Data, limit: int) -> bytes | None:
    """A script that makes `new` from `old`; None when it would be longer than `limit` bytes, or cannot be looked for."""
    return _patch.make(new, old, limit) if _HAVE_KERNEL else None


def apply_patch(script: Data, old: Data, length: int) -> bytes:
    """The new bytes, exactly `length` of them. Raises CorruptObject for a script that does not make so many of `old`."""
    try:
        return _apply(script, old, length)
    except ValueError as error:
        raise CorruptObject("a block cannot be made from its bases", why=str(error)) from error


def apply_in_python(script: Data, old: Data, length: int, /) -> bytes:
    """As the kernel does it. Raises ValueError."""
    text, source = memoryview(script), memoryview(old)
    literals = int.from_bytes(text[:_HEAD], "big")
    if len(text) < _HEAD or literals > len(text) - _HEAD:
        raise ValueError("no script for these bytes")
    literal, operations = _HEAD, _HEAD + literals
    at, next_ = operations, 0
    made = bytearray()
    left = length
    while at < len(text):
        count, at = _varint(text, at)
        copied, at = _varint(text, at)
        jump, at = _varint(text, at)
        next_ += count + (jump >> 1 ^ -(jump & 1))
        left -= count + copied
        if literal + count > operations or not copied or left < 0 or not 0 <= next_ <= len(source) - copied:
            raise ValueError("no script for these bytes")
        # Joined at once: a list of pieces of a byte each would take a hundred times as much memory.
        made += text[literal : literal + count]
        made += source[next_ : next_ + copied]
        literal += count
        next_ += copied
    if operations - literal != left:
        raise ValueError("no script for these bytes")
    made += text[literal:operations]
    return bytes(made)


def _varint(text: memoryview, at: int) -> tuple[int, int]:
    """A number, and where the next one begins."""
    value = 0
    for shift in range(0, 7 * _MAX_VARINT, 7):
        if at == len(text):
            break
        byte = text[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("no script for these bytes")


_apply: Callable[[Data, Data, int], bytes] = _patch.apply if _HAVE_KERNEL else apply_in_python

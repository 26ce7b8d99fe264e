"""Canonical msgpack: one value has exactly one encoding, and anything else is refused.

Allowed: nil, bool, int (smallest form), bin, str, array, and maps with short ASCII keys in sorted order.
No floats, no extension types. `unpack` re-encodes what it read and compares: two encodings of one value
would give one directory two ids.
"""

from __future__ import annotations

from typing import TypeAlias, cast

import msgpack

from dedupstore.errors import CorruptObject
from dedupstore.types import Data

Value: TypeAlias = "bool | int | bytes | str | list[Value] | dict[str, Value] | None"

MAX_BYTES = 16 << 20
"""No object of this format is larger."""

MAX_DEPTH = 32
MAX_MAPS = 1 << 16
"""A map costs 64 B of memory per byte of input at worst; directories hold at most 4 096 per page."""

MAX_ARRAYS = 1 << 18
"""An array costs 70 B per byte of input at worst; a page of entries with many small attributes has 100 000."""

_MAX_KEY_LENGTH = 32
_MAX_SHAPES = 1024
_MAX_SHAPE_LENGTH = 64
_shapes: set[tuple[object, ...]] = set()


def pack(value: Value) -> bytes:
    """The canonical bytes. Maps must be built with sorted keys; `unpack` of the result would refuse others."""
    return cast(bytes, msgpack.packb(value, use_bin_type=True))


def unpack(data: Data, *, max_bytes: int = MAX_BYTES) -> Value:
    """The value behind `data`. Raises CorruptObject for anything but one canonical encoding within the limits."""
    size = len(data)
    if size > max_bytes:
        raise CorruptObject(f"an encoded object of {size} bytes exceeds the limit of {max_bytes}")
    maps = arrays = 0

    def check_array(value: list[object]) -> list[object]:
        nonlocal arrays
        arrays += 1
        if arrays > MAX_ARRAYS:
            raise ValueError("too many arrays")
        return value

    def check_map(value: dict[object, object]) -> dict[object, object]:
        nonlocal maps
        maps += 1
        if maps > MAX_MAPS:
            raise ValueError("too many maps")
        shape = tuple(value)
        if shape not in _shapes:
            _check_shape(shape)
        return value

    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_hook=check_map,
            list_hook=check_array,
            ext_hook=_refuse_extension,
        )
        again = msgpack.packb(value, use_bin_type=True)
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException) as exc:
        raise CorruptObject("an encoded object is malformed", why=str(exc)[:200]) from exc
    if again != data:
        raise CorruptObject("an encoded object is not in canonical form")
    return cast(Value, value)


def unpack_map(data: Data, *, max_bytes: int = MAX_BYTES) -> dict[str, Value]:
    """As `unpack`, for a small object that must be a map; every value in it is checked, also those nobody asks for."""
    value = unpack(data, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise CorruptObject("an encoded object is not a map")
    check_types(value)
    return value


def check_types(value: object, depth: int = 0) -> None:
    """Refuse types outside the format and nesting deeper than it allows. Hot paths check per field instead."""
    if depth > MAX_DEPTH:
        raise CorruptObject("an encoded object is nested too deeply")
    if isinstance(value, list):
        for item in value:
            check_types(item, depth + 1)
    elif isinstance(value, dict):
        for item in value.values():
            check_types(item, depth + 1)
    elif value is not None and not isinstance(value, (bool, int, bytes, str)):
        # Floats, and msgpack's own time stamp: an extension type the library does not ask `ext_hook` about.
        raise CorruptObject(f"an encoded object holds a {type(value).__name__}")


def _check_shape(shape: tuple[object, ...]) -> None:
    previous = ""
    for key in shape:
        if not isinstance(key, str) or not key.isascii() or not 0 < len(key) <= _MAX_KEY_LENGTH:
            raise ValueError("a map key is not short ASCII text")
        if key <= previous:
            raise ValueError("map keys are not sorted")
        previous = key
    # Long ones come from no writer of ours: remembering them would let damage fill the memory.
    if len(_shapes) < _MAX_SHAPES and len(shape) <= _MAX_SHAPE_LENGTH:
        _shapes.add(shape)


def _refuse_extension(code: int, data: bytes) -> object:
    raise ValueError(f"extension type {code}")

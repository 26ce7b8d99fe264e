"""Zstandard frames: one per block, with or without a dictionary of base chunks, read back strictly.

Compressors live as long as their thread; every call releases the GIL.
"""

from __future__ import annotations

import threading

import zstandard
from zstandard import ZstdCompressionDict, ZstdCompressionParameters, ZstdCompressor, ZstdDecompressor

from dedupstore.errors import CorruptObject
from dedupstore.types import Data
from dedupstore.units import KIB, MIB

MAX_RAW_LENGTH = 32 * MIB
DEFAULT_LEVEL = 3

# A frame of ours states its content size and then needs no window beyond it, so this only stops what is foreign.
_WINDOW_CAP = MAX_RAW_LENGTH
_TUNED_UP_TO = 4 * MIB
_TUNED_WINDOW_LOG = 21
_MAX_DELTA_WINDOW_LOG = 27
_MAX_DELTA_TABLE_LOG = 21

_SAMPLES = 16
_SAMPLE_LENGTH = 2 * KIB
_PROBE_FROM = _SAMPLES * _SAMPLE_LENGTH


class _PerThread(threading.local):
    """Contexts cost 100 us to build and cannot be used by two threads at once."""

    def __init__(self) -> None:
        self.compressors: dict[int, ZstdCompressor] = {}
        self.tuned = ZstdCompressor(compression_params=_tuned_parameters())
        self.probe = ZstdCompressor(level=1)
        self.decompressor = ZstdDecompressor()


def _tuned_parameters() -> ZstdCompressionParameters:
    """Level 3 for blocks of about 2 MiB: a smaller chain table, which then stays in the cache.

    Measured on sources, shared libraries and SQL: 0.2 % to 0.4 % larger than the library's level 3, 5 % to 15 %
    faster. Much larger blocks take the library's own.
    """
    return ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_DFAST,
        window_log=_TUNED_WINDOW_LOG,
        hash_log=17,
        chain_log=15,
        search_log=1,
        min_match=5,
        target_length=0,
        write_content_size=1,
        write_checksum=0,
        write_dict_id=0,
    )


def compress(data: Data, *, level: int = DEFAULT_LEVEL) -> bytes:
    """One frame with its content size, without checksum: the encryption around it authenticates.

    `level` is zstd's; 3 is tuned for our blocks, 1 and below are the fast ones.
    """
    try:
        return _compressor(level, len(data)).compress(data)
    except zstandard.ZstdError as exc:
        raise MemoryError(f"zstd cannot compress {len(data)} bytes: {exc}") from exc


def _compressor(level: int, length: int) -> ZstdCompressor:
    if level == DEFAULT_LEVEL and length <= _TUNED_UP_TO:
        return _local.tuned
    found = _local.compressors.get(level)
    if found is None:
        # Zero would be zstd's word for "default".
        found = ZstdCompressor(level=level or 1, write_content_size=True, write_checksum=False, write_dict_id=False)
        _local.compressors[level] = found
    return found


def compress_delta(data: Data, bases: Data, *, level: int = DEFAULT_LEVEL) -> bytes:
    """One frame that may refer to every byte of `bases`, the chunks this data replaces."""
    dictionary = ZstdCompressionDict(bases, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    parameters = _delta_parameters(len(data) + len(bases), level)
    try:
        return ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(data)
    except zstandard.ZstdError as exc:
        raise MemoryError(f"zstd cannot compress {len(data)} bytes: {exc}") from exc


def _delta_parameters(total: int, level: int) -> ZstdCompressionParameters:
    """Window and tables for dictionary and source together.

    Tables sized for the source alone overwrite the dictionary's entries and the matches are lost: for a dump in which
    1 % of the lines changed, level 1 stores half of a full frame, with large bases all of it. What is left of a delta
    is what really changed, so a thorough search pays here as it does not in full frames. Measured on the 5 265 files
    that differ between Linux 6.1.170 and 6.1.192 (175 MB): "dfast" 1 151 kB in 0.7 s, this ("lazy2") 816 kB in 1.4 s,
    "btopt" 752 kB in 20 s.

    Between 2/3 and 4/3 of a table is filled: most of the time goes into filling it with the bases. For a dump of PostgreSQL
    (128 KiB of data, 370 KiB of bases) a table that is half as long takes 60 % of the time and finds 1 % less.
    """
    window_log = min(max((total - 1).bit_length(), 10), _MAX_DELTA_WINDOW_LOG)
    if level > DEFAULT_LEVEL:
        return ZstdCompressionParameters.from_level(
            level, source_size=total, window_log=window_log, write_content_size=1, write_checksum=0, write_dict_id=0
        )
    table_log = min(max((total * 3 // 4).bit_length(), 10), _MAX_DELTA_TABLE_LOG)
    return ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_LAZY2,
        window_log=window_log,
        hash_log=table_log,
        chain_log=table_log,
        search_log=6,
        min_match=5,
        target_length=32,
        write_content_size=1,
        write_checksum=0,
        write_dict_id=0,
    )


def decompress(frame: Data, raw_length: int, bases: Data | None = None) -> bytes:
    """Exactly `raw_length` bytes from exactly one frame; anything else is CorruptObject.

    The header is compared first: python-zstandard ignores `max_output_size` when the frame declares a size, so a
    frame of 32 KiB could otherwise ask for a gigabyte.
    """
    _check_header(frame, raw_length)
    try:
        raw = _decompressor(bases).decompress(frame, max_output_size=raw_length, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise CorruptObject("a compressed block does not decompress", why=str(exc)) from exc
    if len(raw) != raw_length:
        raise CorruptObject("a compressed block has another length", why=f"{len(raw)} bytes, {raw_length} expected")
    return raw


def decompress_at_most(frame: Data, limit: int) -> bytes:
    """What one frame holds, which says itself how much that is: `limit` bytes at most. Raises CorruptObject."""
    length = min(_content_size(frame), limit)
    return decompress(frame, length)


def _decompressor(bases: Data | None) -> ZstdDecompressor:
    if bases is None:
        return _local.decompressor
    return ZstdDecompressor(dict_data=ZstdCompressionDict(bases, dict_type=zstandard.DICT_TYPE_RAWCONTENT))


def _content_size(frame: Data) -> int:
    try:
        return int(zstandard.frame_content_size(frame))
    except zstandard.ZstdError as exc:
        raise CorruptObject("zstd header does not match its block", why=str(exc)) from exc


def _check_header(frame: Data, raw_length: int) -> None:
    if not 0 <= raw_length <= MAX_RAW_LENGTH:
        raise CorruptObject("a block is too large", why=f"{raw_length} bytes raw, {MAX_RAW_LENGTH} at most")
    # The library parses skippable frames as well, and does not say which kind it met.
    if bytes(frame[:4]) != zstandard.FRAME_HEADER:
        raise CorruptObject("zstd header does not match its block", why="it does not start a zstd frame")
    try:
        header = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as exc:
        raise CorruptObject("zstd header does not match its block", why=str(exc)) from exc
    if header.content_size != raw_length:
        why = f"it declares {header.content_size} bytes, {raw_length} expected"
    elif header.window_size > _WINDOW_CAP:
        why = f"it asks for a window of {header.window_size} bytes"
    elif header.dict_id:
        why = f"it asks for dictionary {header.dict_id}"
    else:
        return
    raise CorruptObject("zstd header does not match its block", why=why)


def worth_compressing(data: Data) -> bool:
    """Whether sixteen samples spread over `data` shrink by a 64th at least; about 25 us whatever the length.

    Level 1 and not a faster one: negative levels leave literals as they are and would take base64 or hexadecimal
    text for noise. Up to 32 KiB there is no cheaper probe than compressing.
    """
    if len(data) <= _PROBE_FROM:
        return True
    step = (len(data) - _SAMPLE_LENGTH) // (_SAMPLES - 1)
    view = memoryview(data)
    sample = b"".join([view[start : start + _SAMPLE_LENGTH] for start in range(0, step * _SAMPLES, step)])
    return len(_local.probe.compress(sample)) <= _PROBE_FROM - _PROBE_FROM // 64


_local = _PerThread()

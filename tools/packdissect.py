#!/usr/bin/env python3
"""packdissect: what a pack contains, block by block, and how well it is compressed.

    python tools/packdissect.py REPOSITORY [PACK ...] [--json] [--verify] [--passphrase-file FILE]

PACK is the beginning of a pack id; without one all packs are shown, and the totals. Only headers and trailers are
read, unless --verify asks to decode every block and compare every chunk with its id.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dedupstore.codec.block import BASED, BlockSealer, Codec, split_verified
from dedupstore.errors import DedupError, UsageError
from dedupstore.repo import layout
from dedupstore.repo.config import find_config, open_config
from dedupstore.repo.directory import HEADER_BYTES, BlockRecord
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.keys import open_slot
from dedupstore.repo.opening import identify
from dedupstore.repo.pack import PackHeader, read_pack_directory
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.slots import Secret, weak_cost_allowed
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.registry import open_store
from dedupstore.types import ChunkId, Kind, Span

CODECS = {Codec.RAW: "raw", Codec.ZSTD: "zstd", Codec.DELTA: "delta", Codec.PATCH: "patch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    number: int
    offset: int
    codec: str
    raw: int
    stored: int
    chunks: int
    bases: int


@dataclass(slots=True, kw_only=True)
class Sums:
    """Added up over blocks. Sizes in bytes."""

    blocks: int = 0
    chunks: int = 0
    bases: int = 0
    raw: int = 0
    stored: int = 0

    def add(self, block: BlockRecord) -> None:
        self.blocks += 1
        self.chunks += len(block.ids)
        self.bases += len(block.bases)
        self.raw += block.raw
        self.stored += block.stored

    @property
    def ratio(self) -> float:
        """Raw bytes for each stored one."""
        return self.raw / self.stored if self.stored else 0.0

    def row(self) -> dict[str, float]:
        return {**asdict(self), "ratio": round(self.ratio, 3)}


@dataclass(slots=True, kw_only=True)
class PackReport:
    """One pack: its parts add up to its size."""

    id: str
    kind: str
    epoch: int
    salt: str
    size: int
    trailer: int
    directory: int
    fill: int
    verified: bool
    blocks: list[BlockRow]
    by_codec: dict[str, Sums]


@dataclass(slots=True)
class Totals:
    packs: int = 0
    size: int = 0
    fill: int = 0
    trailers: int = 0
    by_codec: dict[str, Sums] = field(default_factory=dict)

    def add(self, report: PackReport, records: Sequence[BlockRecord]) -> None:
        self.packs += 1
        self.size += report.size
        self.fill += report.fill
        self.trailers += report.trailer
        _by_codec(records, self.by_codec)

    def row(self) -> dict[str, object]:
        raw = sum(sums.raw for sums in self.by_codec.values())
        return {
            "packs": self.packs,
            "size": self.size,
            "fill": self.fill,
            "trailers": self.trailers,
            "raw": raw,
            "ratio": round(raw / self.size, 3) if self.size else 0.0,
            "by_codec": {name: sums.row() for name, sums in sorted(self.by_codec.items())},
        }


def dissect(
    store: ObjectStore, ring: KeyRing, wanted: Sequence[str], *, verify: bool
) -> Iterator[tuple[PackReport, list[BlockRecord]]]:
    """Every pack whose id begins with one of `wanted` (all if empty). Raises CorruptObject at the first bad one."""
    listed = [(PackName.parse(info.key), info.size) for info in layout.list_complete(store, layout.PACKS)]
    find = _base_finder(store, ring, listed) if verify else None
    found = 0
    for name, size in listed:
        if wanted and not name.id.hex().startswith(tuple(wanted)):
            continue
        found += 1
        header, records = read_pack_directory(store, name, size, ring)
        if find is not None:
            _verify(store, ring, name, header, records, find)
        yield _report(name, size, header, records, verified=verify), records
    if wanted and not found:
        raise UsageError(f"no pack begins with {' or '.join(wanted)}")


def _report(
    name: PackName, size: int, header: PackHeader, records: Sequence[BlockRecord], *, verified: bool
) -> PackReport:
    chunks, bases = sum(len(block.ids) for block in records), sum(len(block.bases) for block in records)
    return PackReport(
        id=name.id.hex(),
        kind=name.kind.name.lower(),
        epoch=header.epoch,
        salt=header.salt.hex(),
        size=size,
        trailer=name.trailer_bytes,
        directory=12 + 16 * len(records) + 35 * chunks + 32 * bases,
        fill=size - name.trailer_bytes - HEADER_BYTES - sum(block.stored for block in records),
        verified=verified,
        blocks=[
            BlockRow(
                number=number,
                offset=block.offset,
                codec=CODECS[Codec(block.codec)],
                raw=block.raw,
                stored=block.stored,
                chunks=len(block.ids),
                bases=len(block.bases),
            )
            for number, block in enumerate(records)
        ],
        by_codec=_by_codec(records, {}),
    )


def _by_codec(records: Sequence[BlockRecord], sums: dict[str, Sums]) -> dict[str, Sums]:
    for block in records:
        sums.setdefault(CODECS[Codec(block.codec)], Sums()).add(block)
    return sums


BaseFinder = Callable[[Kind, ChunkId], bytes]


def _base_finder(store: ObjectStore, ring: KeyRing, listed: Sequence[tuple[PackName, int]]) -> BaseFinder:
    """Bytes of a delta base, from the first full copy in any pack. Reads all trailers first."""
    places: dict[tuple[Kind, ChunkId], tuple[PackName, PackHeader, int, BlockRecord]] = {}
    for name, size in listed:
        header, records = read_pack_directory(store, name, size, ring)
        for number, block in enumerate(records):
            if block.codec not in BASED:
                for chunk in block.ids:
                    places.setdefault((name.kind, chunk), (name, header, number, block))

    def find(kind: Kind, chunk: ChunkId) -> bytes:
        place = places.get((kind, chunk))
        if place is None:
            raise DedupError(f"delta base {chunk.hex()[:16]} has no full copy in this repository")
        name, header, number, block = place
        pieces = _decode(store, ring, name, header, number, block, None)
        return bytes(pieces[list(block.ids).index(chunk)])

    return find


def _verify(
    store: ObjectStore,
    ring: KeyRing,
    name: PackName,
    header: PackHeader,
    records: Sequence[BlockRecord],
    find: BaseFinder,
) -> None:
    for number, block in enumerate(records):
        bases = b"".join(find(name.kind, base) for base in block.bases) if block.bases else None
        _decode(store, ring, name, header, number, block, bases)


def _decode(
    store: ObjectStore,
    ring: KeyRing,
    name: PackName,
    header: PackHeader,
    number: int,
    block: BlockRecord,
    bases: bytes | None,
) -> list[memoryview]:
    key = ring.pack_key(header.epoch, header.salt, header.kind)
    sealer = BlockSealer(key, ring.repository, header.salt, header.kind)
    sealed = store.get(name.key, Span(block.offset, block.stored))
    raw = sealer.open(
        sealed, ordinal=number, codec=block.codec, raw_length=block.raw, chunks=len(block.ids), bases=bases
    )
    return split_verified(raw, block.ids, block.lengths, ring.id_key(name.kind))


def open_ring(store: ObjectStore, passphrase: str, *, allow_weak: bool) -> KeyRing:
    """The repository's keys, of earlier epochs too."""
    stored = find_config(store)
    ring = open_slot(
        store,
        identify(store),
        Secret.passphrase(passphrase),
        epoch=stored.epoch,
        allow_weak=allow_weak,
    )
    return open_config(stored, ring)[1]


def print_report(report: PackReport) -> None:
    print(f"pack {report.id}  {report.kind}  epoch {report.epoch}{'  verified' if report.verified else ''}")
    used = sum(sums.stored for sums in report.by_codec.values())
    print(
        f"  {report.size:,} B = header {HEADER_BYTES} + blocks {used:,} + fill {report.fill:,} + trailer {report.trailer:,}"
    )
    print(f"  salt {report.salt}, directory {report.directory:,} B")
    print("  block     offset  codec        raw     stored  ratio  chunks  bases")
    for block in report.blocks:
        ratio = block.raw / block.stored
        print(
            f"  {block.number:5} {block.offset:10}  {block.codec:5} {block.raw:10} {block.stored:10} {ratio:6.2f}"
            f" {block.chunks:7} {block.bases:6}"
        )


def print_totals(totals: Totals) -> None:
    row = totals.row()
    print(f"{row['packs']} packs, {totals.size:,} B for {row['raw']:,} B raw: ratio {row['ratio']}")
    print(f"  fill {totals.fill:,} B, trailers {totals.trailers:,} B")
    for name, sums in sorted(totals.by_codec.items()):
        print(
            f"  {name:5} {sums.blocks:6} blocks {sums.chunks:8} chunks {sums.bases:6} bases"
            f" {sums.raw:12,} B raw {sums.stored:12,} B stored  ratio {sums.ratio:.2f}"
        )


def run(arguments: argparse.Namespace) -> None:
    if arguments.passphrase_file:
        passphrase = Path(arguments.passphrase_file).read_text().removesuffix("\n")
    else:
        passphrase = getpass.getpass("passphrase: ")
    store = open_store(arguments.repository)
    try:
        ring = open_ring(store, passphrase, allow_weak=weak_cost_allowed(os.environ))
        totals, reports = Totals(), []
        for report, records in dissect(store, ring, arguments.pack, verify=arguments.verify):
            totals.add(report, records)
            if arguments.json:
                codecs = {name: sums.row() for name, sums in sorted(report.by_codec.items())}
                reports.append({**asdict(report), "by_codec": codecs})
            else:
                print_report(report)
        if arguments.json:
            print(json.dumps({"packs": reports, "totals": totals.row()}, indent=1))
        else:
            print_totals(totals)
    finally:
        store.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="packdissect", description="Show what packs contain.")
    parser.add_argument("repository", metavar="REPOSITORY")
    parser.add_argument("pack", metavar="PACK", nargs="*", help="the beginning of a pack id")
    parser.add_argument("--json", action="store_true", help="everything as one JSON document")
    parser.add_argument("--verify", action="store_true", help="decode every block and compare every chunk with its id")
    parser.add_argument("--passphrase-file", metavar="FILE")
    try:
        run(parser.parse_intermixed_args(argv))
    except DedupError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.why:
            print(f"  why: {error.why}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

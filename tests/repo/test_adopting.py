"""Packs that no segment describes: they are taken up by the next run, unless their directory makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.repo import pack
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.packs import build_pack
from tests.support.pruning import check
from tests.support.repositories import assert_restores, files_below, make_tree, new_repository, segment_facts, take


def test_a_pack_whose_directory_does_not_parse_gets_into_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed by whoever has the keys, so it opens; every client would stumble over what it says."""
    tree, store = make_tree(tmp_path / "tree"), MemoryStore()
    with new_repository(store) as repository:
        good = build_pack(repository.keyring, [b"left by a run that was stopped"], kind=Kind.DATA)
        with monkeypatch.context() as patch:
            patch.setattr(pack, "encode_directory", lambda blocks: b"this is no directory")
            bad = build_pack(repository.keyring, [b"nonsense"], kind=Kind.DATA)
        for finished in (good, bad):
            store.put(finished.name.key, finished.parts)

        taken = take(repository, tree).snapshot

        described = {fact.id for fact in segment_facts(repository)}
        assert good.name.id in described and bad.name.id not in described
        assert_restores(repository, taken, files_below(tree))
        assert {finding.code for finding in check(repository).findings} == {"check.pack_unindexed"}

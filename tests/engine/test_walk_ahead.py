"""The structure is walked while the data is read: whatever happens to either, the report is that of one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, Counts, DataShare
from dedupstore.engine.damage import MAX_DEPTH, DamageWalk
from dedupstore.engine.health import Health
from dedupstore.engine.sound_walk import SoundWalk
from dedupstore.errors import Interrupted, MissingChunk, ObjectNotFound, StoreError, StoreMissing
from dedupstore.events import Finding, Listener, NullListener, Progress
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.threads import RightOfWay
from dedupstore.types import ChunkId, Kind, Span
from tests.support.manifests import ManifestStore
from tests.support.repositories import make_tree, mutate_tree, new_repository, open_repository, take

SECONDS = 30.0
"""Nothing here waits that long unless it fails."""

WALKER = "check-structure"


class WatchedStore(MemoryStore):
    """Tells who reads: the walk that runs ahead, or anybody else."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = dict(objects)
        self.on_walk: Callable[[], None] = lambda: None
        self.on_pack: Callable[[], None] = lambda: None
        """Before a whole pack is read."""

    def get(self, key: str, span: Span | None = None) -> bytes:
        if threading.current_thread().name == WALKER:
            self.on_walk()
        elif key.startswith("packs/") and span is None:
            self.on_pack()
        return super().get(key, span)


class Heard(NullListener):
    """Calls somebody on every event."""

    def __init__(self, on_finding: Callable[[], None], on_progress: Callable[[], None] = lambda: None) -> None:
        self._on_finding = on_finding
        self._on_progress = on_progress

    def finding(self, finding: Finding) -> None:
        self._on_finding()

    def progress(self, progress: Progress) -> None:
        self._on_progress()


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    tree = make_tree(tmp_path_factory.mktemp("ahead") / "tree")
    store = MemoryStore()
    with new_repository(store) as repository:
        for seed in range(2):
            take(repository, tree)
            mutate_tree(tree, seed)
    return dict(store.objects)


@pytest.fixture
def store(objects: dict[str, bytes]) -> Iterator[WatchedStore]:
    yield WatchedStore(objects)
    assert not walkers(), "a walk outlived its check"


def walkers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == WALKER]


def check(
    repository: Repository, *, threads: int = 2, listener: Listener | None = None, cancel: CancelToken | None = None
) -> CheckReport:
    options = CheckOptions(read_data=DataShare(), threads=threads)
    return check_repository(repository, options, listener=listener or NullListener(), cancel=cancel or CancelToken())


def essence(report: CheckReport) -> tuple[object, ...]:
    """All of a report but how long it took; packs are examined in no certain order."""
    return report.counts, report.damage, sorted(map(repr, report.findings)), report.exit_code, report.complete


def one_after_the_other(objects: dict[str, bytes]) -> tuple[object, ...]:
    with open_repository(WatchedStore(objects)) as repository:
        return essence(check(repository, threads=1))


def flip_a_pack(store: WatchedStore, kind: Kind) -> None:
    ending = {Kind.DATA: ".d", Kind.MANIFEST: ".m"}[kind]
    key = max((key for key in store.objects if ending in key), key=lambda key: len(store.objects[key]))
    data = bytearray(store.objects[key])
    data[200] ^= 1
    store.objects[key] = bytes(data)


def test_a_sound_repository_is_walked_once_beside_the_reading(store: WatchedStore, objects: dict[str, bytes]) -> None:
    walked = threading.Event()
    others: list[str] = []
    store.on_walk = walked.set
    # The packs are read only when the walk has begun: it did not wait for them.
    store.on_pack = lambda: others.append("") if walked.wait(SECONDS) else pytest.fail("nothing walks ahead")

    with open_repository(store) as repository:
        report = check(repository)

    assert report.exit_code == 0
    assert report.counts.snapshots == 2
    assert report.counts.files > 0
    assert len(others) == report.counts.packs
    assert essence(report) == one_after_the_other(objects)


def test_with_one_thread_nothing_walks_ahead(store: WatchedStore) -> None:
    store.on_walk = lambda: pytest.fail("something walks ahead")
    with open_repository(store) as repository:
        assert check(repository, threads=1).exit_code == 0


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.MANIFEST])
def test_damage_that_is_found_while_the_walk_runs_is_told_in_full(store: WatchedStore, kind: Kind) -> None:
    flip_a_pack(store, kind)
    damaged = dict(store.objects)
    found = threading.Event()
    store.on_walk = lambda: None if found.wait(SECONDS) else pytest.fail("no damage was found")

    with open_repository(store) as repository:
        report = check(repository, listener=Heard(found.set))

    assert report.damage.files_total > 0
    assert essence(report) == one_after_the_other(damaged)


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.MANIFEST])
def test_damage_that_is_found_when_the_walk_has_long_said_yes_is_told_in_full(store: WatchedStore, kind: Kind) -> None:
    """The bytes go bad after the walk has read them, before they are read as data."""
    sound = dict(store.objects)
    flip_a_pack(store, kind)
    # A copy: the check writes down what it finds, and the next one would call it known.
    store.objects, damaged = sound, store.objects
    told = dict(damaged)
    changing = threading.Lock()

    def rot() -> None:
        with changing:
            for walker in walkers():
                walker.join(SECONDS)
            store.objects = damaged

    store.on_pack = rot
    with open_repository(store) as repository:
        report = check(repository)

    assert report.damage.files_total > 0
    assert essence(report) == one_after_the_other(told)


def test_a_check_that_is_stopped_stops_its_walk(store: WatchedStore) -> None:
    reached, released = threading.Event(), threading.Event()
    cancel = CancelToken()

    def hold() -> None:
        reached.set()
        assert released.wait(SECONDS)

    def stop() -> None:
        if reached.is_set():
            cancel.cancel()
            released.set()

    store.on_walk = hold
    store.on_pack = lambda: None if reached.wait(SECONDS) else pytest.fail("nothing walks ahead")
    with open_repository(store) as repository, pytest.raises(Interrupted):
        check(repository, listener=Heard(stop, stop), cancel=cancel)


@pytest.mark.parametrize(
    "error",
    [StoreError("no answer"), StoreMissing("gone"), ObjectNotFound("gone"), MemoryError(), RuntimeError("a bug")],
    ids=lambda error: type(error).__name__,
)
def test_what_the_walk_alone_meets_changes_no_report(
    store: WatchedStore, objects: dict[str, bytes], error: Exception
) -> None:
    failures: list[Exception] = []

    def fail() -> None:
        failures.append(error)
        raise error

    store.on_walk = fail
    with open_repository(store) as repository:
        report = check(repository)

    assert failures
    assert essence(report) == one_after_the_other(objects)


def test_a_store_that_goes_away_while_data_is_read_ends_the_check_and_its_walk(store: WatchedStore) -> None:
    reached, released = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert released.wait(SECONDS)

    def fail() -> None:
        assert reached.wait(SECONDS)
        released.set()
        raise StoreMissing("the disk is gone")

    store.on_walk, store.on_pack = hold, fail
    with open_repository(store) as repository, pytest.raises(StoreMissing):
        check(repository)


def test_a_listener_that_fails_ends_the_check_and_its_walk(store: WatchedStore) -> None:
    reached, released = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert released.wait(SECONDS)

    def fail() -> None:
        if reached.is_set():
            released.set()
            raise RuntimeError("a listener")

    store.on_walk = hold
    store.on_pack = lambda: None if reached.wait(SECONDS) else pytest.fail("nothing walks ahead")
    with open_repository(store) as repository, pytest.raises(RuntimeError, match="a listener"):
        check(repository, listener=Heard(fail, fail))


# The walk itself


class Everywhere(Health):
    """All chunks are usable but some; no index."""

    class _Nowhere:
        def find(self, chunk: ChunkId) -> None:
            return None

    def __init__(self, lost: set[ChunkId]) -> None:
        super().__init__(self._Nowhere(), set())  # type: ignore[arg-type]
        self.lost = lost

    def usable(self, chunk: ChunkId, length: int | None = None) -> bool:
        return chunk not in self.lost


def identifier(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


def file(number: int, **fields: object) -> Entry:
    entry = Entry(name=b"%06d" % number, kind=FILE, mode=0o644, size=1, content=identifier(number))
    return replace(entry, **fields)  # type: ignore[arg-type]


def directory(name: bytes, tree: ChunkId) -> Entry:
    return Entry(name=name, kind=DIRECTORY, mode=0o755, tree=tree)


def walk(store: ManifestStore, root: ChunkId, lost: set[ChunkId], snapshot: Snapshot) -> tuple[bool, int, int]:
    """What the quick walk says, after the thorough one said the same."""

    def load(chunk: ChunkId) -> bytes:
        if chunk not in store.chunks:
            raise MissingChunk("it is gone")
        return store.chunks[chunk]

    health, counts = Everywhere(lost), Counts()
    snapshot = replace(snapshot, root=root)
    thorough = DamageWalk(load, health, CancelToken(), counts, lambda: None)
    thorough.walk(snapshot)
    quick = SoundWalk(load, health, lambda: None)
    sound = quick.sound([snapshot, snapshot])
    assert sound == (thorough.found == 0)
    if sound:
        assert (quick.directories, quick.files) == (counts.directories, counts.files)
    return sound, quick.directories, quick.files


@pytest.fixture(scope="module")
def snapshot(objects: dict[str, bytes]) -> Snapshot:
    store = MemoryStore()
    store.objects = dict(objects)
    with open_repository(store) as repository:
        return repository.catalog.snapshots().snapshots[0]


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 20_000])
def test_directories_of_any_length_are_sound_until_one_chunk_is_lost(snapshot: Snapshot, count: int) -> None:
    store = ManifestStore()
    root = store.tree([directory(b"d", store.tree([file(number) for number in range(count)])), file(7, name=b"e")])

    assert walk(store, root, set(), snapshot) == (True, 2, count + 1)
    if count:
        assert not walk(store, root, {identifier(count - 1)}, snapshot)[0]


def test_every_lost_manifest_is_noticed(snapshot: Snapshot) -> None:
    store = ManifestStore()
    inner = store.tree([file(number) for number in range(9000)])
    root = store.tree([directory(b"a", inner), directory(b"b", store.tree([file(1)])), directory(b"c", inner)])
    assert walk(store, root, set(), snapshot)[0]

    for chunk, data in list(store.chunks.items()):
        del store.chunks[chunk]
        assert not walk(store, root, set(), snapshot)[0]
        store.chunks[chunk] = data


def test_entries_that_are_not_understood_at_once_are_looked_at_one_by_one(snapshot: Snapshot) -> None:
    store = ManifestStore()
    rare = [
        file(1),
        file(2, size=11, holes=(0, 10)),
        Entry(name=b"000003", kind="c", mode=0o600, device=(1, 3)),
        directory(b"000004", store.tree([file(5)])),
    ]
    root = store.tree(rare)

    assert walk(store, root, set(), snapshot) == (True, 2, 3)
    for lost in (1, 2, 5):
        assert not walk(store, root, {identifier(lost)}, snapshot)[0]


@pytest.mark.parametrize(("depth", "sound"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_both_walks_go_equally_deep(snapshot: Snapshot, depth: int, sound: bool) -> None:
    store = ManifestStore()
    tree = store.tree([file(1)])
    for _ in range(depth - 1):
        tree = store.tree([directory(b"d", tree)])

    assert walk(store, tree, set(), snapshot)[0] == sound


@pytest.mark.parametrize("rows", [[], [[b"000000", identifier(1)], [b"000000", identifier(1)]]])
def test_page_lists_that_are_wrong_are_not_sound(snapshot: Snapshot, rows: list[list[bytes]]) -> None:
    store = ManifestStore()
    assert not walk(store, store.put({"p": rows, "v": 1}), set(), snapshot)[0]  # type: ignore[dict-item]


def test_pages_that_overlap_or_begin_elsewhere_are_not_sound(snapshot: Snapshot) -> None:
    store = ManifestStore()
    low, high = store.tree([file(1), file(5)]), store.tree([file(3), file(9)])
    for rows in ([[b"000001", low], [b"000003", high]], [[b"000000", low]], [[b"000001", low], [b"000009", high]]):
        assert not walk(store, store.put({"p": rows, "v": 1}), set(), snapshot)[0]  # type: ignore[dict-item]


def test_who_is_inside_goes_first() -> None:
    inside = RightOfWay()
    passed = threading.Event()

    def wait() -> None:
        inside.give_way()
        passed.set()

    inside.give_way()
    with inside:
        waiting = threading.Thread(target=wait)
        waiting.start()
        with inside:
            pass
        assert not passed.wait(0.05)
    assert passed.wait(SECONDS)
    waiting.join()

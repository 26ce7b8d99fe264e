from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedupstore.errors import SourceFailed, UsageError
from dedupstore.sources.roots import Root, resolve_roots


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path))


def make(top: Path, *paths: str) -> list[bytes]:
    for path in paths:
        (top / path).mkdir(parents=True)
    return [os.fsencode(top / path) for path in paths]


def names(roots: list[Root]) -> list[bytes]:
    return [root.name for root in roots]


def test_a_path_is_called_by_its_last_name(top: Path) -> None:
    [path] = make(top, "srv/blog/uploads")

    [root] = resolve_roots([path])

    assert (root.name, root.path, root.parts) == (b"uploads", path, (b"uploads",))
    assert root.stat.st_ino == os.stat(path).st_ino


@pytest.mark.parametrize(
    "typed", [b"uploads", b"./uploads", b"uploads/", b"uploads//", b"uploads/.", b"../blog/uploads"]
)
def test_a_relative_path_is_below_the_working_directory(top: Path, typed: bytes) -> None:
    [path] = make(top, "blog/uploads")

    [root] = resolve_roots([typed], os.path.dirname(path))

    assert (root.name, root.path) == (b"uploads", path)


@pytest.mark.parametrize(
    ("typed", "name"), [(b".", b"uploads"), (b"./", b"uploads"), (b"..", b"blog"), (b"../.", b"blog")]
)
def test_dots_are_called_by_the_real_name(top: Path, typed: bytes, name: bytes) -> None:
    [path] = make(top, "blog/uploads")

    assert names(resolve_roots([typed], path)) == [name]


def test_the_whole_system_is_called_root() -> None:
    [root] = resolve_roots([b"/"])

    assert (root.name, root.path) == (b"root", b"/")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/uploads", "b/uploads"], [b"a/uploads", b"b/uploads"]),
        (["a/uploads", "b/uploads", "etc"], [b"a/uploads", b"b/uploads", b"etc"]),
        (["a/x/uploads", "b/x/uploads"], [b"a/x/uploads", b"b/x/uploads"]),
        (["a/uploads", "b/uploads", "z/a"], [b"b/uploads", b"top/a/uploads", b"z/a"]),
        (["x/a/u", "y/a/u", "b/u"], [b"b/u", b"x/a/u", b"y/a/u"]),
    ],
)
def test_equal_last_names_get_the_shortest_path_that_tells_them_apart(
    top: Path, paths: list[str], expected: list[bytes]
) -> None:
    (top / "top").mkdir()

    roots = resolve_roots(make(top / "top", *paths))

    assert names(roots) == expected


def test_a_path_named_twice_counts_once(top: Path) -> None:
    [path] = make(top, "site")
    (top / "link").symlink_to("site")

    assert names(resolve_roots([path, path + b"/", os.fsencode(top / "link")])) == [b"site"]


def test_a_link_named_by_the_user_is_followed_and_gives_its_name(top: Path) -> None:
    [path] = make(top, "releases/5")
    (top / "current").symlink_to("releases/5")

    [root] = resolve_roots([os.fsencode(top / "current")])

    assert (root.name, root.path) == (b"current", path)


def test_a_single_file_can_be_a_root(top: Path) -> None:
    (top / "app.db").write_bytes(b"x")

    assert names(resolve_roots([os.fsencode(top / "app.db")])) == [b"app.db"]


def test_odd_names_are_kept_exactly(top: Path) -> None:
    path = os.fsencode(top) + b"/\xff\n\x1b"
    os.mkdir(path)

    assert names(resolve_roots([path])) == [b"\xff\n\x1b"]


def test_a_missing_root_fails_the_source_and_is_printed_safely(top: Path) -> None:
    with pytest.raises(SourceFailed) as caught:
        resolve_roots([os.fsencode(top) + b"/gone\x1b"])

    assert caught.value.exit_code == 6
    assert "\\x1b" in caught.value.message
    assert caught.value.why == "no such file or directory"


def test_a_link_that_leads_nowhere_is_missing(top: Path) -> None:
    (top / "link").symlink_to("gone")

    with pytest.raises(SourceFailed):
        resolve_roots([os.fsencode(top / "link")])


def test_a_root_inside_another_is_refused_by_name(top: Path) -> None:
    outer, inner = make(top, "site", "site/a/uploads")

    with pytest.raises(UsageError, match=r"uploads lies inside .*site"):
        resolve_roots([inner, outer])


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="no second file system to show")
def test_a_root_on_another_file_system_stands_beside_the_outer_one_that_does_not_reach_it() -> None:
    assert names(resolve_roots([b"/", b"/proc"], one_file_system=True)) == [b"proc", b"root"]
    with pytest.raises(UsageError):
        resolve_roots([b"/", b"/proc"])


@pytest.mark.parametrize("paths", [[], [b""], [b"a\0b"]])
def test_what_is_no_path_is_a_mistake_in_the_call(paths: list[bytes]) -> None:
    with pytest.raises(UsageError):
        resolve_roots(paths)

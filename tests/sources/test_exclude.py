from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.errors import UsageError
from dedupstore.sources.exclude import Excluder, ExcludeRules
from dedupstore.sources.filesystem import list_names, open_directory, stat_entry

STAT = os.lstat("/")
SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = open_directory(os.fsencode(tmp_path))
    yield fd
    os.close(fd)


def kept(patterns: tuple[str, ...], paths: list[bytes]) -> list[bytes]:
    """What a walk that does not enter excluded directories keeps; directories end with a slash."""
    excluder = Excluder(ExcludeRules(patterns=patterns))
    shut: list[bytes] = []
    result = []
    for path in paths:
        if any(path.startswith(directory) for directory in shut):
            continue
        if excluder.excludes(path.rstrip(b"/"), path.endswith(b"/"), STAT) is None:
            result.append(path)
        elif path.endswith(b"/"):
            shut.append(path)
    return result


TREE = [
    b"a.tmp",
    b"cache/",
    b"cache/keep/",
    b"cache/keep/x.tmp",
    b"cache/keep/y",
    b"cache/other",
    b"doc/",
    b"doc/a.txt",
    b"doc/cache",
    b"doc/deep/",
    b"doc/deep/a.txt",
    b"doc/deep/cache/",
    b"doc/deep/cache/z",
    b"#draft#",
    b"!important",
]

GOLDEN: list[tuple[tuple[str, ...], list[bytes]]] = [
    ((), []),
    (("*.tmp",), [b"a.tmp", b"cache/keep/x.tmp"]),
    (("/*.tmp",), [b"a.tmp"]),
    (("cache/",), [b"cache/", b"cache/keep/", b"cache/keep/x.tmp", b"cache/keep/y", b"cache/other",
                   b"doc/deep/cache/", b"doc/deep/cache/z"]),
    (("cache",), [b"cache/", b"cache/keep/", b"cache/keep/x.tmp", b"cache/keep/y", b"cache/other", b"doc/cache",
                  b"doc/deep/cache/", b"doc/deep/cache/z"]),
    (("/cache/",), [b"cache/", b"cache/keep/", b"cache/keep/x.tmp", b"cache/keep/y", b"cache/other"]),
    (("doc/a.txt",), [b"doc/a.txt"]),
    (("doc/**/a.txt",), [b"doc/a.txt", b"doc/deep/a.txt"]),
    (("doc/*/a.txt",), [b"doc/deep/a.txt"]),
    (("**/cache/z",), [b"doc/deep/cache/z"]),
    (("*.txt", "!a.txt"), []),
    (("*.txt", "!/doc/a.txt"), [b"doc/deep/a.txt"]),
    (("cache/*", "!cache/keep"), [b"cache/other"]),
    # The configuration file of the manual.
    (("*.tmp", "cache/", "!cache/keep/"), [b"a.tmp", b"cache/keep/x.tmp", b"cache/other", b"doc/deep/cache/",
                                           b"doc/deep/cache/z"]),
    (("/cache/", "!cache/keep/"), [b"cache/other"]),
    (("/cache/", "!cache/keep/", "!*.tmp"), [b"cache/other"]),
    (("/cache/", "!/c*/keep/y"), [b"cache/keep/x.tmp", b"cache/other"]),
    # As git has it: the way to what is kept must be spelled out from the root.
    (("/cache/", "!keep"), [b"cache/", b"cache/keep/", b"cache/keep/x.tmp", b"cache/keep/y", b"cache/other"]),
    (("#draft#",), [b"#draft#"]),
    (("\\!important",), [b"!important"]),
    (("DOC",), []),
    (("do[a-c]",), [b"doc/", b"doc/a.txt", b"doc/cache", b"doc/deep/", b"doc/deep/a.txt", b"doc/deep/cache/",
                    b"doc/deep/cache/z"]),
    (("", "  "), []),
    # What is in a directory, and not the directory.
    (("cache/**",), [b"cache/keep/", b"cache/keep/x.tmp", b"cache/keep/y", b"cache/other"]),
    (("cache/**", "!cache/keep"), [b"cache/keep/x.tmp", b"cache/keep/y", b"cache/other"]),
    (("cache/**", "!cache/**/", "!*.tmp"), [b"cache/keep/y", b"cache/other"]),
    # Taking a directory back does not take back what another pattern says of names in it.
    (("*.txt", "!doc"), [b"doc/a.txt", b"doc/deep/a.txt"]),
    (("*.txt", "!/doc/deep"), [b"doc/a.txt", b"doc/deep/a.txt"]),
    (("*/",), [path for path in TREE if b"/" in path]),
    (("**/",), [path for path in TREE if b"/" in path]),
    (("/*/", "!/doc/"), [path for path in TREE if path.startswith(b"cache/")]),
    (("[[:punct:]]*",), [b"#draft#", b"!important"]),
    (("[^[:alpha:]]*",), [b"#draft#", b"!important"]),
    (("*[\\#\\!]",), [b"#draft#"]),
]  # fmt: skip


@pytest.mark.parametrize(("patterns", "excluded"), GOLDEN)
def test_patterns_mean_what_gitignore_says(patterns: tuple[str, ...], excluded: list[bytes]) -> None:
    assert sorted(set(TREE) - set(kept(patterns, TREE))) == sorted(excluded)


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("*.tmp", b"caf\xe9/\xff.tmp", True),
        (os.fsdecode(b"\xff*"), b"\xff.jpg", True),
        ("*.tmp", b"a\nb/c.tmp", True),
        ("*.tmp", b"c.tmp\n", False),
        ("a?b", b"a\nb", True),
        ("a\nb", b"a\nb", True),
        ("\u202e*", "\u202egpj".encode(), True),
        ("a\\*b", b"a*b", True),
        ("a\\*b", b"axb", False),
    ],
)
def test_any_name_can_be_matched(pattern: str, path: bytes, excluded: bool) -> None:
    reason = Excluder(ExcludeRules(patterns=(pattern,))).excludes(path, False, STAT)

    assert (reason is not None) is excluded


PARTS = (
    "a", "b", "*", "?", "**", "ab*", "*.c", "[ab]", "[!a]", "[^b]", "[a-f]*", "\\#h", "#h", "\\!b", "x y", "t\\ ", "t ", "a[[]1]",
    "a\\[1\\]", "***", "*b", "[[:alpha:]]", "[^[:upper:][:digit:]]*", "[]a]*", "a]", "a[bB]", "z\\?", "[a-]", "[\\]a]", "[--0]", "[!]a-]",
)  # fmt: skip
NAMES = ("a", "b", "ab", "aB", "ab.c", "x y", "#h", "!b", "a[1]", "t ", "a]", "z?", "-", "4")


@pytest.mark.skipif(shutil.which("git") is None, reason="git says what is right")
def test_random_patterns_mean_what_git_says(tmp_path: Path) -> None:
    choose = random.Random(59)
    below = [f"{top}/{name}" for top in ("a", "ab", "x y", "!b") for name in NAMES]
    paths = [*NAMES, *below, *(f"{path}/{name}" for path in ("a/b", "ab/a[1]") for name in NAMES)]
    parents = {path.rpartition("/")[0] for path in paths} - {""}
    for path in paths:
        where = tmp_path / path
        if path in parents:
            where.mkdir(parents=True)
        else:
            where.parent.mkdir(parents=True, exist_ok=True)
            where.touch()
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for _ in range(200):
        lines = []
        for _ in range(choose.choice((1, 1, 2, 3, 4))):
            text = "/".join(choose.choices(PARTS, k=choose.choice((1, 1, 1, 2, 2, 3))))
            # Negated patterns with a slash go further than git, as `Excluder` says.
            sign = "!" if "/" not in text and choose.random() < 0.3 else choose.choice(("", "", "/"))
            lines.append(sign + text + choose.choice(("", "", "/", "  ")))
        (tmp_path / ".git/info/exclude").write_text("\n".join(lines) + "\n")
        command = [
            "git",
            "-C",
            str(tmp_path),
            "-c",
            "core.excludesFile=",
            "check-ignore",
            "--no-index",
            "-z",
            "--stdin",
        ]
        answer = subprocess.run(command, input="\0".join(paths), capture_output=True, text=True, check=False).stdout
        excluder = Excluder(ExcludeRules(pattern_files=(os.fsencode(tmp_path / ".git/info/exclude"),)))
        mine: set[str] = set()
        for path in sorted(paths, key=lambda path: path.count("/")):
            if path.rpartition("/")[0] in mine or excluder.excludes(path.encode(), path in parents, STAT):
                mine.add(path)
        assert mine == set(answer.split("\0")) - {""}, lines


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*-*-*-*-*-*-*-*.tmp", "-" * 250),
        ("*[ab]*[ab]*[ab]*[ab]*[ab]*[ab]*c", "ab" * 120),
        ("**/a/**/a/**/a/**/a/**/b", "a/" * 1500 + "c"),
        ("**/*a*/**/*a*/**/*a*/**/b", "aaaa/" * 700 + "c"),
    ],
)
def test_a_name_that_is_made_for_it_takes_no_time(pattern: str, name: str) -> None:
    """Names are the choice of whoever uploads a file."""
    asked = (
        "from dedupstore.sources.exclude import Excluder, ExcludeRules\n"
        f"print(Excluder(ExcludeRules(patterns=({pattern!r},))).excludes({name.encode()!r}, False, None))"
    )

    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=20, check=False)

    # Not excluded; what is asked next is its size, and there is none.
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


def test_the_reason_names_the_pattern_safely() -> None:
    excluder = Excluder(ExcludeRules(patterns=("*.log", "\x1b*")))

    assert excluder.excludes(b"a.log", False, STAT) == "pattern *.log"
    assert excluder.excludes(b"\x1bx", False, STAT) == "pattern \\x1b*"


def test_without_rules_nothing_is_asked() -> None:
    assert not Excluder(ExcludeRules()).active


def test_pattern_files_have_comments_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "excludes"
    file.write_bytes(b"\xef\xbb\xbf# caches\r\n\r\n*.tmp\r\n\xff*\n\\#x\n")
    excluder = Excluder(ExcludeRules(patterns=("*.bak",), pattern_files=(os.fsencode(file),)))

    excluded = [
        path
        for path in (b"a.tmp", b"\xffa", b"#x", b"b.bak", b"# caches", b"c")
        if excluder.excludes(path, False, STAT)
    ]

    assert excluded == [b"a.tmp", b"\xffa", b"#x", b"b.bak"]


def test_a_missing_pattern_file_is_a_mistake_in_the_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the exclude file"):
        Excluder(ExcludeRules(pattern_files=(os.fsencode(tmp_path / "gone"),)))


@pytest.mark.parametrize("pattern", ["!", "/", "a\\", "[z-a]"])
def test_a_pattern_that_means_nothing_is_a_mistake_in_the_call(pattern: str) -> None:
    with pytest.raises(UsageError, match="not an exclude pattern"):
        Excluder(ExcludeRules(patterns=("*.ok", pattern)))


def test_larger_files_are_left_out_directories_never(tmp_path: Path, fd: int) -> None:
    (tmp_path / "just").write_bytes(b"x" * 1000)
    (tmp_path / "over").write_bytes(b"x" * 1001)
    excluder = Excluder(ExcludeRules(larger_than=1000))

    assert excluder.excludes(b"just", False, stat_entry(b"just", fd)) is None
    assert excluder.excludes(b"over", False, stat_entry(b"over", fd)) == "larger than 1.0 kB"
    assert excluder.excludes(b"d", True, os.lstat("/")) is None


def content(excluder: Excluder, fd: int, *, root_device: int | None = None) -> tuple[str, list[bytes]] | None:
    stat = os.fstat(fd)
    return excluder.excludes_content(fd, list_names(fd), stat, stat.st_dev if root_device is None else root_device)


def test_a_marked_directory_stays_with_nothing_but_its_mark(tmp_path: Path, fd: int) -> None:
    excluder = Excluder(ExcludeRules(if_present=(b".nobackup", b".skip")))
    assert content(excluder, fd) is None

    (tmp_path / ".skip").touch()

    assert content(excluder, fd) == ("contains .skip", [b".skip"])


def test_a_cache_directory_needs_the_signature(tmp_path: Path, fd: int) -> None:
    excluder = Excluder(ExcludeRules(caches=True))
    (tmp_path / "CACHEDIR.TAG").write_bytes(b"no signature")
    assert content(excluder, fd) is None

    (tmp_path / "CACHEDIR.TAG").write_bytes(SIGNATURE)

    assert content(excluder, fd) == ("a cache directory", [b"CACHEDIR.TAG"])
    assert content(Excluder(ExcludeRules()), fd) is None


def test_a_mount_point_stays_empty_when_one_file_system_was_asked_for(fd: int) -> None:
    excluder = Excluder(ExcludeRules(one_file_system=True))

    assert content(excluder, fd) is None
    assert content(excluder, fd, root_device=-1) == ("another file system", [])
    assert content(Excluder(ExcludeRules()), fd, root_device=-1) is None


def test_the_nodump_flag_is_respected_only_when_asked(tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def flagged(name: bytes, dir_fd: int, stat: os.stat_result) -> bool:
        asked.append(name)
        return name == b"f"

    monkeypatch.setattr("dedupstore.sources.exclude.nodump", flagged)

    assert Excluder(ExcludeRules(nodump=True)).excludes(b"d/f", False, STAT, fd) == "marked nodump"
    assert Excluder(ExcludeRules(nodump=True)).excludes(b"d/g", False, STAT, fd) is None
    assert Excluder(ExcludeRules(larger_than=5)).excludes(b"d/f", False, STAT, fd) is None
    assert asked == [b"f", b"g"]

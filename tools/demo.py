"""A backup, a disaster and a restore, as a user would do them: `make demo`.

Makes a directory of some thousand real files and a database, takes snapshots before and after changes, destroys
everything but the repository, restores the first state and compares every byte and every time of it with a list made
beforehand, by code of its own. Uses nothing but the `dedup` command. --keep leaves the directory for a look around.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import secrets
import shlex
import shutil
import sqlite3
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROWS = 300_000
CHANGED_ROWS = ROWS // 100
LIBRARY_FILES = 2500
SEED = 20_261_121
MARGIN_SECONDS = 0.05


class DemoFailed(Exception):
    """Something is not as it was promised."""


@dataclass
class Demo:
    """The workplace, and how the command is called in it."""

    home: Path
    environment: dict[str, str] = field(init=False)
    command: list[str] = field(init=False)

    def __post_init__(self) -> None:
        beside = Path(sys.executable).with_name("dedup")
        self.command = [str(beside)] if beside.exists() else [sys.executable, "-m", "dedupstore.cli.main"]
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
        self.environment = kept | {
            "HOME": str(self.home),
            "DEDUP_CACHE_DIR": str(self.home / "cache"),
            "DEDUP_STATE_DIR": str(self.home / "state"),
            "DEDUP_REPO": str(self.home / "repository"),
            "DEDUP_PASSPHRASE": secrets.token_urlsafe(24),
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        }

    @property
    def site(self) -> Path:
        return self.home / "site"

    def dedup(self, *arguments: str, quiet: bool = False) -> tuple[str, float]:
        """Run the command; what it printed, and how many seconds it took. Raises DemoFailed when it fails."""
        if not quiet:
            say(f"\n$ dedup {shlex.join(arguments)}")
        began = time.monotonic()
        done = subprocess.run(
            [*self.command, *arguments, "--progress=none", "--no-input"],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        if done.returncode:
            raise DemoFailed(f"dedup {shlex.join(arguments)} ended with exit code {done.returncode}:\n{done.stderr}")
        if not quiet:
            say((done.stdout + done.stderr).rstrip())
        return done.stdout, seconds

    def answer(self, *arguments: str) -> dict[str, Any]:
        """The JSON document a query gives."""
        found: dict[str, Any] = json.loads(self.dedup(*arguments, "--json", quiet=True)[0])
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description="A backup, a disaster and a restore, in a temporary directory.")
    parser.add_argument("--keep", action="store_true", help="leave the directory there")
    keep = parser.parse_args().keep
    home = Path(tempfile.mkdtemp(prefix="dedup-demo-"))
    try:
        run(Demo(home))
    except DemoFailed as exc:
        say(f"\nFAILED: {exc}")
        return 1
    finally:
        if keep:
            say(f"\nEverything is still in {home}")
        else:
            remove(home)
    return 0


def run(demo: Demo) -> None:
    began = time.monotonic()
    say("A site is made: Python's own library, generated pages and images, and an SQLite database.")
    make_site(demo.site)
    before = fingerprint(demo.site)
    size = sum(row.size for row in before.values())
    say(f"{count(len(before))} names, {megabytes(size)}, {count(ROWS)} rows in the database.")

    _, first_seconds = demo.dedup("snapshot", "site", "--source", "site", "--init")
    moment = settled_moment()
    changed = change_site(demo.site)
    say(
        f"\nA day of work: {changed} files changed, added, renamed or removed, {count(CHANGED_ROWS)} rows (1 %) updated."
    )
    _, second_seconds = demo.dedup("snapshot", "site", "--source", "site")
    demo.dedup("snapshots")
    demo.dedup("diff", "latest~1", "latest", "--stat")

    say("\nThe disaster: the site and everything this machine knew about the repository are gone.")
    remove(demo.site)
    remove(demo.home / "cache")
    _, restore_seconds = demo.dedup("restore", "--at", moment, "--to", "restored")

    say(
        "\nIs it what it was? Every name, byte, hole, time, mode, owner and link is compared with the list made before."
    )
    compare(before, fingerprint(demo.home / "restored" / "site"))
    ask_database(demo.home / "restored" / "site" / "data" / "shop.db")
    say(f"Yes: all {count(len(before))} names are identical, and the database passes its own integrity check.")
    demo.dedup("check", "--read-data")
    report(demo, size, first_seconds, second_seconds, restore_seconds, time.monotonic() - began)


def report(
    demo: Demo, size: int, first_seconds: float, second_seconds: float, restore_seconds: float, seconds: float
) -> None:
    """What it cost, in plain words."""
    first, second = (row["bytes"]["stored"] for row in demo.answer("snapshots")["snapshots"])
    stored = demo.answer("stats")["bytes"]["stored"]
    say(
        f"""
What it cost
  The first snapshot took {first_seconds:.1f} s and stored {megabytes(first)} for {megabytes(size)} of files.
  The second took {second_seconds:.1f} s and added {megabytes(second)}: {100 * second / size:.1f} % of the site, \
though the updated rows are spread over the whole database.
  Both together, encrypted and with their index, take {megabytes(stored)}; as plain copies they would take \
{megabytes(2 * size)}.
  The restore took {restore_seconds:.1f} s. The demonstration as a whole: {seconds:.0f} s."""
    )
    if second > size / 10:
        raise DemoFailed("the second snapshot should have been far smaller than the site")


def make_site(site: Path) -> None:
    """Some thousand files of every sort."""
    chance = random.Random(SEED)
    copy_library(site / "lib")
    for number in range(600):
        page = site / "pages" / f"{number % 20:02d}" / f"page-{number}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text(chance, chance.randrange(20, 400)), encoding="utf-8")
    (site / "images").mkdir()
    for number in range(60):
        (site / "images" / f"image-{number}.jpg").write_bytes(chance.randbytes(chance.randrange(20_000, 300_000)))
    make_oddities(site / "odd")
    make_database(site / "data" / "shop.db", chance)


def copy_library(target: Path) -> None:
    source = Path(sysconfig.get_path("stdlib"))
    copied = 0
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "site-packages", "dist-packages"))
        below = target / Path(folder).relative_to(source)
        below.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and path.stat().st_size < 4 << 20 and copied < LIBRARY_FILES:
                shutil.copy2(path, below / name)
                copied += 1


def make_oddities(folder: Path) -> None:
    """What backups get wrong: links, holes, empty things, old times, names that are no text."""
    folder.mkdir()
    (folder / "empty").touch()
    (folder / "empty-directory").mkdir()
    (folder / "link").symlink_to("../pages/00")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "one").write_text("two names, one file\n")
    os.link(folder / "one", folder / "other")
    with open(folder / "sparse", "wb") as file:
        file.truncate(64 << 20)
        file.seek(20 << 20)
        file.write(b"an island in a sea of zeros")
    (folder / "new\nline and \x1b[31mcolour").write_text("printed names must be harmless\n")
    with open(os.fsencode(folder) + b"/not-\xff-utf8", "wb") as raw:
        raw.write(b"names are bytes\n")
    private = folder / "private"
    private.write_text("for me alone\n")
    private.chmod(0o600)
    os.utime(private, ns=(0, 1_000_000_001))


def make_database(path: Path, chance: random.Random) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, items TEXT, total INTEGER)")
        database.execute("CREATE INDEX by_customer ON orders (customer)")
        database.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?)",
            ((number, f"customer-{chance.randrange(40_000)}", text(chance, 12), number * 7) for number in range(ROWS)),
        )
    database.close()


def change_site(site: Path) -> int:
    """Edit, add, rename and remove files, and update 1 % of the rows all over the table."""
    chance = random.Random(SEED + 1)
    pages = sorted((site / "pages").rglob("*.html"))
    chosen = chance.sample(pages, 60)
    for page in chosen[:30]:
        page.write_text(f"{page.read_text(encoding='utf-8')}\n<p>edited</p>\n", encoding="utf-8")
    for page in chosen[30:45]:
        page.unlink()
    for page in chosen[45:]:
        page.rename(page.with_suffix(".old"))
    for number in range(20):
        (site / "pages" / f"new-{number}.html").write_text(text(chance, 200), encoding="utf-8")
    with sqlite3.connect(site / "data" / "shop.db") as database:
        database.executemany(
            "UPDATE orders SET total = total + 1, items = items || ' (changed)' WHERE id = ?",
            ((number,) for number in chance.sample(range(ROWS), CHANGED_ROWS)),
        )
    database.close()
    return len(chosen) + 20


def ask_database(path: Path) -> None:
    database = sqlite3.connect(path)
    try:
        rows = database.execute("SELECT count(*) FROM orders").fetchone()[0]
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        database.close()
    if rows != ROWS or verdict != "ok":
        raise DemoFailed(f"the restored database has {rows} rows and says {verdict!r}")


@dataclass(frozen=True, slots=True)
class Row:
    """Everything about one name that a restore must bring back. `content`: hash, or where a link points."""

    mode: int
    owner: tuple[int, int]
    modified_ns: int
    size: int
    content: str
    links: int
    attributes: tuple[tuple[str, bytes], ...]


def fingerprint(root: Path) -> dict[bytes, Row]:
    """Every name below a directory, the directory itself included."""
    return {os.path.relpath(path, os.fsencode(root)): describe(path) for path in names_below(os.fsencode(root))}


def names_below(path: bytes) -> Iterator[bytes]:
    yield path
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from names_below(entry.path)
            else:
                yield entry.path


def describe(path: bytes) -> Row:
    status = os.lstat(path)
    content = ""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.fsdecode(os.readlink(path))
    directory = stat.S_ISDIR(status.st_mode)
    return Row(
        mode=status.st_mode,
        owner=(status.st_uid, status.st_gid),
        modified_ns=status.st_mtime_ns,
        size=0 if directory else status.st_size,
        content=content,
        links=0 if directory else status.st_nlink,
        attributes=attributes(path),
    )


def attributes(path: bytes) -> tuple[tuple[str, bytes], ...]:
    if not hasattr(os, "listxattr"):
        return ()
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names if name.startswith("user."))


def compare(before: dict[bytes, Row], after: dict[bytes, Row]) -> None:
    differing = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    for name in differing[:10]:
        say(f"  {name!r}\n    was {before.get(name)}\n    is  {after.get(name)}")
    if differing:
        raise DemoFailed(f"{len(differing)} names are not what they were")


def settled_moment() -> str:
    """A time of day, to the second, that lies after all done so far and before all that follows."""
    second = int(time.time()) + 1
    while time.time() < second + MARGIN_SECONDS:
        time.sleep(MARGIN_SECONDS)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


WORDS = [
    "".join(parts)
    for chance in [random.Random(SEED)]
    for parts in (chance.choices(("ba", "do", "ki", "lu", "me", "ro", "sa", "ti", "vu"), k=4) for _ in range(2000))
]


def remove(path: Path) -> None:
    shutil.rmtree(os.fsencode(path), ignore_errors=True)


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

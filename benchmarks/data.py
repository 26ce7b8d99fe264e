"""Data sets: versions of a tree or file, made once in the work directory and shown to the tools one at a time."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class DataUnavailable(Exception):
    """A data set cannot be made here; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where a run works, and whether its data are of full size."""

    work: Path
    full: bool

    @property
    def scale(self) -> str:
        return "full" if self.full else "small"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Versions of one item. Tools always see it under the same path: a version is shown by renaming it there."""

    root: Path
    item: str
    versions: tuple[str, ...]

    @property
    def stage(self) -> Path:
        return self.root / "stage"

    @property
    def shown(self) -> Path:
        return self.stage / self.item

    def show(self, number: int) -> None:
        """Put a version in place. Right after any crash: the version that is not on the shelf is the one shown."""
        self.stage.mkdir(exist_ok=True)
        wanted = self.root / self.versions[number]
        if self.shown.exists():
            absent = [version for version in self.versions if not (self.root / version).exists()]
            os.rename(self.shown, self.root / absent[0])
        os.rename(wanted, self.shown)

    def touch(self) -> None:
        """Give the shown file a new modification time, so that a tool must read it to know that it is unchanged."""
        self.shown.touch()


Maker = Callable[[Path], tuple[str, ...]]
"""Makes all versions of a data set below a directory, in order, and returns their names."""


def prepare(bench: Bench, name: str, item: str, parameters: object, make: Maker) -> DataSet:
    """The data set of that name, made now unless it was made before with the same parameters."""
    root = bench.work / "data" / bench.scale / name
    recipe = root / "recipe.json"
    wanted = json.dumps(parameters, sort_keys=True)
    if recipe.exists():
        record = json.loads(recipe.read_text())
        if record["parameters"] == wanted:
            return DataSet(root=root, item=item, versions=tuple(record["versions"]))
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    versions = make(root)
    # Written last: a directory without a recipe is half made and will be made again.
    recipe.write_text(json.dumps({"parameters": wanted, "versions": versions}))
    return DataSet(root=root, item=item, versions=versions)


PACKAGE = "linux-source-6.1"
WANTED = ("6.1.170-3", "6.1.192-2")


def make_kernels(work: Path, root: Path) -> tuple[str, ...]:
    """Two Linux trees: the wanted versions where they are to be had, else the oldest and newest that Debian offers.

    A directory or symbolic link `linux-VERSION` in the work directory is copied instead of downloading.
    """
    present = {path.name.removeprefix("linux-") for path in work.glob("linux-*") if path.is_dir()}
    chosen = list(WANTED)
    if not present.issuperset(WANTED):
        offered = _offered_versions()
        if not set(WANTED) <= present | set(offered):
            available = sorted(present | set(offered), key=_version_key)
            if len(available) < 2:
                raise DataUnavailable(f"apt offers fewer than two versions of {PACKAGE}; run apt-get update")
            chosen = [available[0], available[-1]]
    for version in chosen:
        if version in present:
            source = (work / f"linux-{version}").resolve()
            subprocess.run(("cp", "-a", "--reflink=auto", str(source), str(root / version)), check=True)
        else:
            _unpack_kernel(work, version, root / version)
    return tuple(chosen)


def _offered_versions() -> list[str]:
    done = subprocess.run(("apt-cache", "madison", PACKAGE), capture_output=True, text=True, check=True)
    return [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.count("|") == 2]


def _version_key(version: str) -> list[int]:
    return [int(part) for part in version.replace("-", ".").split(".") if part.isdigit()]


def _unpack_kernel(work: Path, version: str, target: Path) -> None:
    packages = work / "deb"
    packages.mkdir(exist_ok=True)
    package = packages / f"{PACKAGE}_{version}_all.deb"
    if not package.exists():
        subprocess.run(("apt-get", "download", f"{PACKAGE}={version}"), cwd=packages, check=True)
    unpacked = target.with_suffix(".deb")
    subprocess.run(("dpkg-deb", "-x", str(package), str(unpacked)), check=True)
    archive = unpacked / "usr" / "src" / f"{PACKAGE}.tar.xz"
    target.mkdir()
    subprocess.run(("tar", "-xJf", str(archive), "--strip-components=1", "-C", str(target)), check=True)
    shutil.rmtree(unpacked)

"""From what a user types after `-r` to an object store. A new backend is one line here."""

from __future__ import annotations

import importlib
import os
import re
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from dedupstore.errors import UsageError
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.options import NO_OPTIONS, StoreOptions
from dedupstore.storage.throttle import ThrottledStore

if TYPE_CHECKING:
    from dedupstore.storage.s3_probe import Probed

# Named as text and imported on first use: a backend's library may be slow to load or absent.
_BACKENDS = {
    "file": "dedupstore.storage.local:LocalStore",
    **dict.fromkeys(("s3", "oss", "cos", "minio", "minio+http"), "dedupstore.storage.s3_backend:S3Backend"),
}

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_SHORT = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):")
# `user:secret@host:path`, as other tools write it, and `s3:key:secret@bucket`.
_COLON_BEFORE_AT = re.compile(r"[^/@]*:[^@]*@")


class Backend(Protocol):
    """What the table names: a class whose `open` and `create` take the location a user typed."""

    def open(self, location: str) -> ObjectStore:
        """The store at `location`; creates nothing."""
        ...

    def create(self, location: str) -> ObjectStore:
        """A new, empty store at `location`."""
        ...


class RemoteBackend(Protocol):
    """The same for a store that carries out the options by itself."""

    def open(self, location: str, options: StoreOptions) -> ObjectStore: ...

    def create(self, location: str, options: StoreOptions) -> ObjectStore: ...


def open_store(url: str, options: StoreOptions = NO_OPTIONS) -> ObjectStore:
    """The store that `url` names: a path, `~/…`, `file://…` or a URL of a known scheme. Creates nothing."""
    scheme, location = _resolve(url)
    if scheme != "file":
        remote: RemoteBackend = _load(scheme)
        return remote.open(location, options)
    local: Backend = _load(scheme)
    return _with_options(local.open(location), options)


def create_store(url: str, options: StoreOptions = NO_OPTIONS) -> ObjectStore:
    """A new, empty store at `url`."""
    scheme, location = _resolve(url)
    if scheme != "file":
        remote: RemoteBackend = _load(scheme)
        return remote.create(location, options)
    local: Backend = _load(scheme)
    return _with_options(local.create(location), options)


def probe_store(url: str) -> Probed:
    """What the server of a bucket really does. Raises UsageError for a directory: there is nothing to try there."""
    scheme, _ = _resolve(url)
    if scheme == "file":
        raise UsageError(
            "a directory is not probed",
            why="what differs from one server to another is the same for all directories",
            hints=["name a bucket: dedup repo probe s3://BUCKET/PREFIX"],
        )
    _load(scheme)
    found: Probed = importlib.import_module("dedupstore.storage.s3_probe").probe(url)
    return found


def _with_options(store: ObjectStore, options: StoreOptions) -> ObjectStore:
    if options.storage_class:
        raise UsageError(
            f"there are no storage classes at {store.url}",
            why="a storage class is for a bucket",
            hints=["leave --storage-class out, and storage_class of the configuration of this repository"],
            code="config.invalid_value",
        )
    if options.object_lock_ns:
        raise UsageError(
            f"objects cannot be locked at {store.url}",
            why="object_lock needs a bucket that was made with Object Lock",
            hints=["take object_lock out of the configuration of this repository"],
            code="config.invalid_value",
        )
    if options.upload is None and options.download is None:
        return store
    return ThrottledStore(store, upload=options.upload, download=options.download)


def refuse_secrets(url: str) -> None:
    """Raise UsageError, without repeating it, for a URL with a user name or a password anywhere in it."""
    match = _URL.fullmatch(url)
    if match is not None:
        _refuse_secrets(match["scheme"].lower(), match["rest"])
    elif not url.startswith((".", "/", "~")) and _COLON_BEFORE_AT.match(url):
        raise _secret_in_url("")


def known_schemes() -> tuple[str, ...]:
    """The schemes this version can open."""
    return tuple(sorted(_BACKENDS))


def _resolve(url: str) -> tuple[str, str]:
    """The scheme, `file` for a path, and what its backend is given."""
    if not url or "\0" in url:
        raise UsageError("not a repository URL", why="it is empty" if not url else "it contains a NUL byte")
    match = _URL.fullmatch(url)
    if match is None:
        return "file", _path(url)
    scheme = match["scheme"].lower()
    _refuse_secrets(scheme, match["rest"])
    location = _file_path(match["rest"]) if scheme == "file" else url
    return scheme, location


def _load(scheme: str) -> Any:
    name = _BACKENDS.get(scheme)
    if name is None:
        known = ", ".join(f"{name}://" for name in known_schemes())
        raise UsageError(
            f"unknown repository scheme {scheme}://",
            why=f"known are plain paths and {known}",
            hints=["write a directory whose name looks like this as ./NAME"],
            code="config.unknown_scheme",
        )
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _path(text: str) -> str:
    if not text.startswith((".", "/", "~")):
        if _COLON_BEFORE_AT.match(text):
            raise _secret_in_url("")
        short = _SHORT.match(text)
        if short and short["scheme"].lower() in _BACKENDS:
            raise UsageError(
                f"not a repository URL: {short['scheme']}: needs two slashes",
                hints=[f"write {short['scheme']}://…, or ./NAME for a directory"],
            )
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise UsageError(f"no such home directory: {text.partition('/')[0]!r}", hints=["write the whole path"])
    return path


def _file_path(rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(
            "a file:// URL names a path on this machine",
            hints=["write three slashes and the whole path: file:///srv/backup"],
        )
    if "?" in path or "#" in path:
        raise UsageError("a file:// URL takes no query", hints=["write ? as %3F and # as %23"])
    decoded = unquote_to_bytes(slash + path)
    if b"\0" in decoded:
        raise UsageError("not a repository URL", why="it contains a NUL byte")
    return os.fsdecode(decoded)


def _refuse_secrets(scheme: str, rest: str) -> None:
    """Refuse user names and passwords anywhere in the URL, without repeating them."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    _, colon, port = authority.rpartition(":")
    # A secret with a slash in it ends the authority early: `s3://key:ab/cd@bucket`.
    cut_short = bool(colon) and not port.isdigit() and "@" in rest
    # The query may hold a URL of its own: `?endpoint=https://key:secret@host`.
    query = unquote_to_bytes(rest.partition("?")[2]).decode("utf-8", "replace")
    if "@" in authority or cut_short or re.search(r"://[^/?#&]*@", query):
        raise _secret_in_url(scheme)


def _secret_in_url(scheme: str) -> UsageError:
    if scheme == "file":
        hint = "write the path alone: /srv/backup"
    else:
        hint = "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...   or   s3://bucket/prefix?profile=NAME"
    return UsageError(
        "credentials do not belong in the repository URL",
        why="a URL shows up in process lists, logs and shell history",
        hints=[hint],
        code="config.secret_in_url",
    )

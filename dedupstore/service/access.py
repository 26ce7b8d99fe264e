"""One repository and the way in: where it is, what opens it, where this machine keeps its cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dedupstore.clock import Clock
from dedupstore.errors import DedupError, UsageError
from dedupstore.events import Finding
from dedupstore.repo.identity import identify
from dedupstore.repo.keys import start_opening
from dedupstore.repo.slots import Secret, weak_cost_allowed
from dedupstore.service.dirs import cache_dir
from dedupstore.service.seen import memory_of, require_known
from dedupstore.storage.base import is_remote, shows_past
from dedupstore.storage.options import NO_OPTIONS, StoreOptions
from dedupstore.storage.registry import open_store
from dedupstore.types import RepositoryId
from dedupstore.units import GIB

if TYPE_CHECKING:
    from dedupstore.repo.catalog import Catalog
    from dedupstore.repo.config import Operation
    from dedupstore.repo.opening import OpenKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What opens a repository. Exactly one field is set."""

    passphrase: bytes | None = field(default=None, repr=False)
    key_file: bytes | None = field(default=None, repr=False)
    recovery_key: str | None = field(default=None, repr=False)

    def secret(self) -> Secret:
        if self.key_file is not None:
            return Secret.key_file(self.key_file)
        if self.recovery_key is not None:
            return recovery_secret(self.recovery_key)
        if self.passphrase is None:
            raise UsageError("no passphrase was given", code="usage.no_passphrase")
        try:
            return Secret.passphrase(self.passphrase.decode("utf-8"))
        except UnicodeDecodeError:
            raise UsageError("the passphrase is not valid UTF-8", code="usage.passphrase_encoding") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One repository and the way in. `note` is told what is worth knowing and stops nothing."""

    url: str
    credential: Credential
    clock: Clock
    environ: Mapping[str, str]
    note: Callable[[Finding], None] = field(default=lambda finding: None)
    options: StoreOptions = NO_OPTIONS
    """Limits and locks that the configuration asks for."""

    kept_bytes: int = GIB
    """How much of the packs of a repository in a bucket this machine keeps, to compress the next increment against."""

    trusting: bool = False
    """Whether what is shown now is to be taken for the newest state: nothing is compared, nothing remembered."""

    repository: RepositoryId | None = None
    """Which one it is, where the caller has found that out already: see `require_repository`."""

    _started: Secret | None = field(default=None, repr=False)

    @property
    def secret(self) -> Secret:
        """What the credential comes to. Raises UsageError."""
        return self._started or self.credential.secret()

    @property
    def cache_path(self) -> Path:
        return cache_dir(self.environ)

    @property
    def allow_weak(self) -> bool:
        return weak_cost_allowed(self.environ)

    def started(self, begun: Access | None = None) -> Access:
        """The same access; from now on the key is being derived, while the caller loads what it needs afterwards.

        `begun` was started earlier: if it is the way into the same repository, its key is the one. Nothing is told of
        what goes wrong here: opening the repository meets it again, in its turn.
        """
        if begun is not None and begun._started is not None:
            if (begun.url, begun.credential, begun.repository) == (self.url, self.credential, self.repository):
                return replace(self, _started=begun._started)
        try:
            store = open_store(self.url)
            try:
                repository = self.repository or identify(store)
                secret = start_opening(store, repository, self.secret, allow_weak=self.allow_weak)
            finally:
                store.close()
        except DedupError:
            return self
        return replace(self, repository=repository, _started=secret)

    def open_keys(self, operation: Operation | None = None) -> OpenKeys:
        """Its keys and its list of snapshots, to read unless another operation is named.

        Raises RepositoryNotFound, WrongPassphrase, RepositoryTooNew ...
        """
        # Loaded while the key is being derived.
        opening = import_module("dedupstore.repo.opening")
        more = {} if operation is None else {"operation": operation}
        opened: OpenKeys = opening.open_keys(
            open_store(self.url, self.options), self.secret, repository=self.repository, allow_weak=self.allow_weak,
            **more,
        )  # fmt: skip
        self.watch(opened.catalog, opened.keyring.epoch, opened.config_number)
        return opened

    def watch(self, catalog: Catalog, epoch: int, config: int) -> None:
        """Compare what is shown with what this machine has seen at this place, now and at every listing.

        And keep the records of snapshots where fetching them takes time. Raises Refused `repo.replaced`,
        `repo.rolled_back`.
        """
        if self.trusting or shows_past(catalog.store):
            return
        if is_remote(catalog.store):
            # Loaded only where there is a network between.
            records = import_module("dedupstore.repo.record_cache")
            catalog.records = records.RecordCache(self.cache_path, catalog.keyring)
        memory = memory_of(self.environ, catalog.keyring.repository.hex(), catalog.store.url, self.note)
        if memory is not None:
            memory.opened(epoch, config)
            catalog.watch = memory


def require_repository(url: str, environ: Mapping[str, str] | None = None) -> str:
    """The repository's id in hex, without any secret. Raises RepositoryNotFound: ask before asking for a passphrase.

    With `environ` also Refused `repo.replaced`, when this machine knows another one at that place.
    """
    return found_repository(url, environ).hex()


def found_repository(
    url: str, environ: Mapping[str, str] | None = None, *, known: RepositoryId | None = None
) -> RepositoryId:
    """The same, as an id for `Access.repository`; `known` where this call of the program has asked before."""
    store = open_store(url)
    try:
        repository = known or identify(store)
        if environ is not None and not shows_past(store):
            require_known(environ, repository.hex(), store.url)
        return repository
    finally:
        store.close()


def nowhere(url: str, clock: Clock, environ: Mapping[str, str]) -> Access:
    """The access to a repository that is yet to be made: nothing opens it."""
    return Access(url=url, credential=Credential(), clock=clock, environ=environ)


def weak_keys_allowed(environ: Mapping[str, str]) -> bool:
    """Whether this is a run of the tests, which may make keys at no cost."""
    return weak_cost_allowed(environ)


def recovery_secret(text: str) -> Secret:
    """From a recovery key as printed, or from a whole recovery kit that contains one."""
    # Loaded only now: passphrases and key files are what opens a repository every day.
    recovery = import_module("dedupstore.repo.recovery")
    if "-----BEGIN" in text:
        secret: Secret | None = recovery.parse_kit(text).secret
        if secret is None:
            raise UsageError(
                "this kit holds no recovery key",
                why="its key slot is opened by a passphrase",
                hints=["use the passphrase, or print a kit with a key: dedup key kit --recovery"],
            )
        return secret
    return Secret.recovery(recovery.parse_recovery_key(text))

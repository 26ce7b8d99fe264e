"""Every error a user can meet: what happened, why, what to try, a stable code and an exit code.

An error of the *repository* is an exception and ends the operation. One bad *source* file is a
`Finding` (see events.py) and ends with exit code 3. The two are never mixed: a full repository
must not look like a skipped file.
"""

from __future__ import annotations

from collections.abc import Sequence


class DedupError(Exception):
    """The root of the tree. `str(error)` is the one-line message: what, which."""

    code = "failed"
    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, why: str = "", hints: Sequence[str] = (), code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.hints = tuple(hints)
        if code:
            self.code = code

    @property
    def in_one_line(self) -> str:
        """What and why, for a finding, or as the reason of another error."""
        return f"{self.message}: {self.why}" if self.why else self.message


class UsageError(DedupError):
    """The call cannot be carried out as it was written."""

    code = "usage"
    exit_code = 2
    http_status = 400


class NothingMatches(DedupError):
    """No snapshot, path or object answers the question."""

    code = "nothing_matches"
    exit_code = 5
    http_status = 404


class SourceFailed(DedupError):
    """The source as a whole could not be read: no snapshot is made."""

    code = "source.failed"
    exit_code = 6


class TargetFailed(DedupError):
    """A restore could not write its target (full disk, missing rights)."""

    code = "target.failed"
    exit_code = 1


class Refused(DedupError):
    """Refused for safety; nothing was changed."""

    code = "refused"
    exit_code = 8
    http_status = 409


class Interrupted(DedupError):
    """Stopped by a signal. What was stored stays and is used by the next run."""

    code = "interrupted"
    exit_code = 130


class CacheError(DedupError):
    """The local cache cannot be used. Never fatal to data: the cache is dropped and rebuilt."""

    code = "cache.failed"


class RepositoryError(DedupError):
    """Trouble with the repository as a whole."""

    code = "repo.failed"


class RepositoryNotFound(RepositoryError):
    code = "repo.not_found"
    exit_code = 10
    http_status = 404


class RepositoryTooNew(RepositoryError):
    """Written by a newer dedup, or it uses a feature this one does not know."""

    code = "repo.too_new"
    exit_code = 13


class WrongPassphrase(RepositoryError):
    """No key slot opens. A wrong passphrase and an altered slot say the same thing, on purpose."""

    code = "repo.wrong_passphrase"
    exit_code = 12
    http_status = 403


class StoreError(RepositoryError):
    """A storage operation failed. `transient`: trying again may help."""

    code = "store.failed"
    exit_code = 7
    http_status = 502

    def __init__(
        self, message: str, *, why: str = "", hints: Sequence[str] = (), code: str = "", transient: bool = False
    ) -> None:
        super().__init__(message, why=why, hints=hints, code=code)
        self.transient = transient

    @property
    def is_denial(self) -> bool:
        """Whether the store does not let us: it is append-only, its objects are locked, it is mounted read-only."""
        return self.code in ("store.denied", "store.locked", "store.read_only")


class ObjectNotFound(StoreError):
    code = "store.object_not_found"


class PackGone(ObjectNotFound):
    """A pack that the index knows is not there, and no other one has the chunk: damage, unless a prune was faster."""

    code = "repo.missing_pack"
    exit_code = 4


class StoreFull(StoreError):
    code = "store.full"


class StoreReadOnly(StoreError):
    code = "store.read_only"


class StoreGone(StoreError):
    """The store as a whole cannot be asked. What it would have said of an object is not known: it is no damage."""


class StoreSilent(StoreGone):
    """The store has stopped answering, for this object and for any other, after all tries."""


class StoreMissing(StoreGone):
    """The store's root is not there at all. Not an `ObjectNotFound`: an unmounted disk is no proof of absence."""

    code = "repo.not_found"
    exit_code = 10
    http_status = 404


class IncompleteListing(StoreError):
    """A listing without both sentinels: unmounted disk, failing proxy, lost page."""

    code = "store.incomplete_listing"


class IntegrityError(RepositoryError):
    """Stored bytes are not what was written."""

    code = "check.damaged"
    exit_code = 4


class CorruptObject(IntegrityError):
    """An object fails authentication, or its content contradicts its name or layout."""

    code = "repo.corrupt_object"


class CorruptChunk(IntegrityError):
    code = "repo.corrupt_chunk"


class MissingChunk(IntegrityError):
    code = "repo.missing_chunk"

"""The open repository's keys: one master secret for each epoch, and the domain secret that outlives epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dedupstore.codec import claims, crypto
from dedupstore.codec.claims import ObjectType
from dedupstore.codec.hashing import Keyed
from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.repo.slots import SlotSecrets
from dedupstore.types import Kind, RepositoryId


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyRing:
    """Every key of an open repository, derived when first asked for. Safe to share between threads.

    `epoch` is the one new objects are written under; `masters` holds it and, once the config is read, all earlier ones.
    Later ones are added when they are met, if the same secret opens them (`renew`).
    """

    repository: RepositoryId
    epoch: int
    masters: dict[int, bytes] = field(repr=False)
    domain: bytes = field(repr=False)
    renew: Callable[[], Mapping[int, bytes]] | None = field(default=None, repr=False)
    """Asked for every master secret there is when an object is of a later epoch: the keys may have been rotated since."""

    _id_keys: dict[Kind, Keyed] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def generate(cls, repository: RepositoryId, *, random: crypto.RandomSource = crypto.random_bytes) -> KeyRing:
        """The secrets of a new repository."""
        master, domain = random(crypto.KEY_LENGTH), random(crypto.KEY_LENGTH)
        return cls(repository=repository, epoch=1, masters={1: master}, domain=domain)

    @classmethod
    def from_secrets(cls, repository: RepositoryId, secrets: SlotSecrets) -> KeyRing:
        return cls(
            repository=repository,
            epoch=secrets.epoch,
            masters={secrets.epoch: secrets.master},
            domain=secrets.domain,
        )

    @property
    def newest(self) -> int:
        """The latest epoch known: later than `epoch` when the keys were rotated since the repository was opened."""
        return max(self.masters)

    def secrets(self) -> SlotSecrets:
        """What a slot holds: the current epoch only. Older masters are in the sealed config."""
        return SlotSecrets(epoch=self.epoch, master=self.masters[self.epoch], domain=self.domain)

    def with_older(self, masters: Sequence[tuple[int, bytes]]) -> KeyRing:
        """The same ring, able to read what earlier epochs wrote."""
        return replace(self, masters={**dict(masters), **self.masters})

    def next_epoch(self, *, random: crypto.RandomSource = crypto.random_bytes) -> KeyRing:
        """A ring that writes under a new master secret and still reads the earlier ones. Nothing is stored yet."""
        return self.at_epoch(self.epoch + 1, random=random)

    def at_epoch(self, epoch: int, *, random: crypto.RandomSource = crypto.random_bytes) -> KeyRing:
        """As `next_epoch`, under a number of the caller's choice: that of a rotation that was stopped is left out."""
        if epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} is not later than {self.epoch}")
        return replace(self, epoch=epoch, masters={**self.masters, epoch: random(crypto.KEY_LENGTH)}, renew=None)

    def id_key(self, kind: Kind) -> Keyed:
        """Names chunks of this kind. Data and manifests have separate keys: one can never pass for the other."""
        keyed = self._id_keys.get(kind)
        if keyed is None:
            label = "id-data" if kind is Kind.DATA else "id-manifest"
            keyed = self._id_keys[kind] = Keyed(crypto.derive(self.domain, label, self.repository))
        return keyed

    def chunker_key(self) -> bytes:
        return crypto.derive(self.domain, "chunker", self.repository)

    def cache_key(self) -> bytes:
        """For paths in this machine's cache: a stolen cache must not tell names."""
        return crypto.derive(self.domain, "cache", self.repository)

    def pack_key(self, epoch: int, salt: bytes, kind: Kind) -> bytes:
        """The key of one pack. Raises CorruptObject `repo.unknown_epoch`."""
        return crypto.derive(self._master(epoch), "pack", self.repository, salt + bytes((kind,)))

    def seal(self, type: ObjectType, name: str, payload: bytes) -> bytes:
        """A sealed object under the current epoch."""
        root = self.masters[self.epoch]
        return crypto.seal_object(
            root, type=type, repository=self.repository, epoch=self.epoch, name=name, payload=payload
        )

    def open(self, type: ObjectType, name: str, sealed: bytes) -> bytes:
        """The payload of an object of any known epoch. Raises CorruptObject; for a config of the future RepositoryTooNew.

        What a repository needs is written in its config and refused there. In any other object a header of the future
        is far more often a flipped bit, and that must not hide all other objects.
        """
        try:
            epoch = claims.peek_epoch(sealed)
        except RepositoryTooNew as error:
            if type is ObjectType.CONFIG:
                raise
            why = "it is damaged, or was written by a newer dedup than the config admits"
            raise CorruptObject(f"{name} does not open", why=why) from error
        return crypto.open_object(
            self._master(epoch), type=type, repository=self.repository, epoch=epoch, name=name, sealed=sealed
        )

    def _master(self, epoch: int) -> bytes:
        master = self.masters.get(epoch)
        if master is None and self.renew is not None and epoch > self.epoch:
            self.masters.update({**self.renew(), **self.masters})
            master = self.masters.get(epoch)
        if master is None:
            raise CorruptObject(
                f"no key for epoch {epoch}",
                why=f"this key opens epoch {self.epoch}; a removed key does not open what came after it",
                hints=["if the keys were rotated just now: run it again with the new one"],
                code="repo.unknown_epoch",
            )
        return master

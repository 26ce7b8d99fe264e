"""Can the repository still be opened by the next command: FORMAT and the configs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.hashing import digest
from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.twice import twice
from dedupstore.errors import CorruptObject, DedupError, StoreGone
from dedupstore.events import Finding
from dedupstore.repo import layout
from dedupstore.repo.config import decode_config
from dedupstore.repo.opening import identify


class ConfigCheck:
    """FORMAT names this repository; every config opens. Only the newest one counts, an older one is a warning."""

    name = "config"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        try:
            twice(lambda: _identify(session))
        except StoreGone:
            raise
        except DedupError as exc:
            yield _damaged("check.format", exc.message)
        newest = max(session.inventory.configs, default="")
        if not newest:
            yield _damaged("check.config_damaged", "the repository has no config any more")
        for key in session.inventory.configs:
            try:
                twice(partial(_open, session, key))
            except StoreGone:
                raise
            except DedupError as exc:
                severity = "error" if key == newest else "warning"
                yield _damaged("check.config_damaged", f"{key}: {exc.message}", severity)


def _identify(session: Session) -> None:
    if identify(session.repository.store) != session.repository.id:
        raise CorruptObject("FORMAT names another repository")


def _open(session: Session, key: str) -> None:
    number, hash_of_sealed = layout.parse_config_key(key)
    sealed = session.repository.store.get(key)
    if digest([sealed]) != hash_of_sealed:
        raise CorruptObject("its bytes do not have the hash in its name")
    config = decode_config(session.repository.keyring.open(ObjectType.CONFIG, layout.config_name(number), sealed))
    if config.repository != session.repository.id:
        raise CorruptObject("it is the config of another repository")


def _damaged(code: str, message: str, severity: str = "error") -> Finding:
    return Finding(code=code, message=message, severity=severity)

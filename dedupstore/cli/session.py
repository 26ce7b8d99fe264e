"""What every command is given: the global settings, the output, the clock, the signals."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TextIO

from dedupstore.cancel import AGAIN, CancelToken
from dedupstore.cli.options import Settings
from dedupstore.cli.output import Output
from dedupstore.cli.signals import Signals
from dedupstore.clock import Clock
from dedupstore.errors import UsageError
from dedupstore.types import RepositoryId

if TYPE_CHECKING:
    from dedupstore.service.access import Access
    from dedupstore.service.config import Loaded
    from dedupstore.service.config_schema import Repo


REPO = "repo:"
"""`repo:NAME` names a repository of the configuration."""


class Place(NamedTuple):
    """Where a repository is; `name` is empty for one that was named by its URL."""

    url: str
    name: str = ""


class Session:
    """One run of `dedup`; `@click.pass_obj` hands it to the command."""

    def __init__(
        self,
        *,
        clock: Clock,
        environ: Mapping[str, str],
        signals: Signals,
        stdin: TextIO,
        stdout: TextIO,
        stderr: TextIO,
    ) -> None:
        self.settings = Settings()
        self.clock = clock
        self.environ = environ
        self.signals = signals
        self.stdin = stdin
        self.out = Output(self.settings, clock, environ, stdout=stdout, stderr=stderr)
        self.found: dict[str, RepositoryId] = {}
        """Repositories that this call has found, by URL: each is looked for once."""

        self.begun: Access | None = None
        """A repository whose key is being derived since this call began; see `opening.begin_deriving`."""

        self.storage_class = ""
        """What this call asks for instead of what the configuration says."""

        self._configuration: Loaded | None = None
        self._past_ns: int | None = None

    @property
    def can_ask(self) -> bool:
        """Whether a person is there to answer: on a terminal, and not forbidden by --no-input."""
        return self.stdin.isatty() and self.out.error_terminal and not self.settings.no_input

    def take_token(self, hint: str = AGAIN) -> CancelToken:
        """For work that stops politely between steps; without it a signal ends the command at once."""
        return self.signals.take_token(hint)

    def configuration(self) -> Loaded:
        """What the files of the configuration say, read once. Raises UsageError for one that is wrong."""
        if self._configuration is None:
            # Loaded only for calls that need it: many name everything themselves.
            service = import_module("dedupstore.service.config")
            self._configuration = service.load(self.settings.config, self.environ)
        return self._configuration

    def place(self) -> Place | None:
        """The repository of this call: -r, `DEDUP_REPO`, the first line of `DEDUP_REPO_FILE`, or the configuration's."""
        named = self.settings.repo or self._repository_file()
        if named:
            return self.in_past(self.resolved(named))
        name = self.configuration().default_repo
        return self.in_past(self.resolved(f"{REPO}{name}")) if name else None

    def require_place(self) -> Place:
        place = self.place()
        if place is None:
            raise UsageError(
                "no repository given",
                hints=["add -r /mnt/backup", "export DEDUP_REPO=/mnt/backup", "or write it down: dedup config init"],
                code="usage.no_repository",
            )
        return place

    def resolved(self, text: str) -> Place:
        """What a user writes where a repository is meant: a path, a URL, or repo:NAME."""
        if not text.startswith(REPO):
            return Place(text)
        name = text.removeprefix(REPO)
        return Place(os.path.expanduser(self.configuration().repo(name).url), name)

    def in_past(self, place: Place) -> Place:
        """The same place as it was at the time of --at-store-time, if that is given. Raises UsageError."""
        text = self.settings.at_store_time
        if not text:
            return place
        if self._past_ns is None:
            times = import_module("dedupstore.service.times")
            # Once for all uses of this run: "2h ago" must not move on.
            self._past_ns = times.instant(text, self.clock, self.environ, utc=self.settings.utc)
        past = import_module("dedupstore.service.places").in_past
        return Place(past(place.url, self._past_ns), place.name or self.configuration().repo_at(place.url) or "")

    def repo_at(self, place: Place) -> Repo | None:
        """What the configuration says of that place; one named by its URL only if the configuration was read at all."""
        loaded = self._configuration
        name = place.name or ("" if loaded is None else loaded.repo_at(place.url))
        return self.configuration().repo(name) if name else None

    def repository_url(self) -> str | None:
        place = self.place()
        return None if place is None else place.url

    def require_repository_url(self) -> str:
        return self.require_place().url

    def _repository_file(self) -> str | None:
        path = self.environ.get("DEDUP_REPO_FILE")
        if not path:
            return None
        try:
            with open(path, encoding="utf-8") as file:
                return file.readline().strip() or None
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"cannot read DEDUP_REPO_FILE={path}", why=str(exc)) from exc

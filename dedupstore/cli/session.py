"""What every command is given: the global settings, the output, the clock, the signals."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from dedupstore.cancel import CancelToken
from dedupstore.cli.options import Settings
from dedupstore.cli.output import Output
from dedupstore.cli.signals import Signals
from dedupstore.clock import Clock
from dedupstore.errors import UsageError

if TYPE_CHECKING:
    from dedupstore.service.config import Loaded


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
        self._configuration: Loaded | None = None

    @property
    def can_ask(self) -> bool:
        """Whether a person is there to answer: on a terminal, and not forbidden by --no-input."""
        return self.stdin.isatty() and self.out.error_terminal and not self.settings.no_input

    def take_token(self) -> CancelToken:
        """For work that stops politely between steps; without it a signal ends the command at once."""
        return self.signals.take_token()

    def configuration(self) -> Loaded:
        """What the files of the configuration say, read once. Raises UsageError for one that is wrong."""
        if self._configuration is None:
            # Loaded only for calls that need it: many name everything themselves.
            service = import_module("dedupstore.service.config")
            self._configuration = service.load(self.settings.config, self.environ)
        return self._configuration

    def repository_url(self) -> str | None:
        """What names the repository: -r, `DEDUP_REPO`, or the first line of the file `DEDUP_REPO_FILE`."""
        if self.settings.repo:
            return self.settings.repo
        path = self.environ.get("DEDUP_REPO_FILE")
        if not path:
            return None
        try:
            with open(path, encoding="utf-8") as file:
                return file.readline().strip() or None
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"cannot read DEDUP_REPO_FILE={path}", why=str(exc)) from exc

    def require_repository_url(self) -> str:
        url = self.repository_url()
        if url is None:
            raise UsageError(
                "no repository given",
                hints=["add -r /mnt/backup", "export DEDUP_REPO=/mnt/backup"],
                code="usage.no_repository",
            )
        return url

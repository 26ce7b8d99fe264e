"""Reports of errors nobody expected: a file that can be shown to others, free of secrets.

A traceback holds code and messages, no values of variables; what may slip into messages is masked.
"""

from __future__ import annotations

import os
import platform
import re
import traceback
from collections.abc import Mapping, Sequence

from dedupstore import __version__
from dedupstore.cli.session import Session
from dedupstore.errors import DedupError
from dedupstore.service.dirs import private_directory, state_dir

_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|DSN|AUTH", re.IGNORECASE)
_USERINFO = re.compile(r"(://)[^/@\s]+@")
_LONG_SECRET = re.compile(r"\b(?:[0-9a-fA-F]{32,}|[A-Za-z0-9+/_-]{40,}=*)")
_QUERY_SECRET = re.compile(r"((?:secret|token|key|password|signature|credential)[\w-]*=)[^&\s'\"]+", re.IGNORECASE)


def unexpected(exception: Exception, session: Session, arguments: Sequence[str]) -> DedupError:
    """The error to show for a bug, after a report was written."""
    kind = type(exception).__name__
    try:
        path = _write(exception, session, arguments)
        hints = [f"report it with this file, which holds no secrets: {path}"]
    except (OSError, DedupError) as problem:
        hints = ["run it again with -vv and report what it prints"]
        session.out.detail(f"no report could be written: {problem}")
    return DedupError(f"an unexpected {kind}", why="this is a bug in dedup", hints=hints, code="internal")


def scrubbed_traceback(exception: BaseException, environ: Mapping[str, str]) -> str:
    """The traceback with everything masked that looks like a secret or is one in the environment."""
    text = "".join(traceback.format_exception(exception))
    secrets = {value for name, value in environ.items() if _SECRET_NAME.search(name) and len(value) >= 4}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _USERINFO.sub(r"\1***@", text)
    text = _QUERY_SECRET.sub(r"\1***", text)
    return _LONG_SECRET.sub("***", text)


def _write(exception: Exception, session: Session, arguments: Sequence[str]) -> str:
    folder = private_directory(state_dir(session.environ)) / "reports"
    private_directory(folder)
    path = folder / f"{session.clock.now_ns() // 1_000_000}-{os.getpid()}.txt"
    # Names of options and commands only: their values are paths, addresses and the like.
    words = [word.partition("=")[0] for word in arguments if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?|[a-z]{2,12}", word)]
    text = (
        f"dedup {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"options: {' '.join(words)}\n\n{scrubbed_traceback(exception, session.environ)}"
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return os.fspath(path)

"""The configuration as TOML text again: to be shown, to be kept with a snapshot, to begin with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dedupstore.service.config_files import Document, Keys

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ADDRESSES = ("urls", "webhook", "healthchecks")
MASK = "…"

SAMPLE = """\
# The configuration of dedup. What is commented out shows what can be said; `dedup config check` reads it,
# `dedup config schema` describes it for editors.
version = 1
{default}
[repos.main]
url = {url}
passphrase = {passphrase}    # file: env: command: systemd: keyring:

# [repos.nas]
# url = "/mnt/nas/dedup"
# passphrase = "file:/etc/dedup/nas.pass"

# [sources.site]
# type = "files"
# paths = ["/srv/site", "/etc/nginx"]
# exclude = ["*.tmp", "cache/"]               # as in .gitignore

# [sources.ldap]
# type = "command"
# command = ["slapcat", "-n", "1"]
# filename = "ldap.ldif"

[retention.default]                            # for: dedup forget --policy
keep_last = 3
keep_daily = 14
keep_weekly = 8
keep_monthly = 12
min_age = "3d"                                 # nothing younger is ever removed
require_verified = 1                           # nor the newest that passed a check

# [replicas.offsite]
# from = "main"
# to = "nas"
# max_lag = "36h"
"""


def sample(url: str, passphrase: str) -> str:
    """A configuration to begin with."""
    return SAMPLE.format(default='default_repo = "main"\n', url=_text(url), passphrase=_text(passphrase))


def to_toml(document: Mapping[str, Any]) -> str:
    """Text that reads back as this document: values first, then tables."""
    return "\n".join(_lines(document, ())).strip("\n") + "\n"


def masked(document: Mapping[str, Any]) -> Document:
    """The document with what may hold a token of [notify] left out. References to secrets are none."""
    notify = document.get("notify")
    if not isinstance(notify, dict):
        return dict(document)
    return {**document, "notify": {name: _mask_channel(channel) for name, channel in notify.items()}}


def value_text(value: object) -> str:
    """One value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        members = ", ".join(f"{_key(name)} = {value_text(member)}" for name, member in value.items())
        return f"{{ {members} }}" if members else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return str(value)


def _lines(table: Mapping[str, Any], above: Keys) -> Iterator[str]:
    for name, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{_key(name)} = {value_text(value)}"
    for name, value in table.items():
        if isinstance(value, Mapping):
            keys = (*above, name)
            if any(not isinstance(member, Mapping) for member in value.values()) or not value:
                yield ""
                yield f"[{'.'.join(map(_key, keys))}]"
            yield from _lines(value, keys)


def _mask_channel(channel: object) -> object:
    if not isinstance(channel, dict):
        return channel
    return {
        name: [MASK for _ in value] if name in _ADDRESSES and isinstance(value, list)
        else MASK if name in _ADDRESSES
        else value
        for name, value in channel.items()
    }  # fmt: skip


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    # A basic string of TOML is one of JSON, but for DEL, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Pages for the codes of the configuration and its hooks; see codes.py."""

from __future__ import annotations

PAGES: dict[str, str] = {
    "config.bad_url": "The repository URL is not one that can be used. The message says what is wrong with it and how it "
    "should look; `docs/storage.md` lists all that may stand in it.",
    "config.exists": "There is a configuration at that place already. Nothing is overwritten.",
    "config.invalid_value": "A value of the configuration is not what it has to be. The message names the file and the "
    "line; `dedup config check` lists every mistake.",
    "config.missing": "Something that is needed is missing in the configuration. The message names the table; `dedup "
    "config schema` lists what each must have.",
    "config.not_private": "Others can change the configuration, and it names commands that are run. The message names "
    "the command that puts it right.",
    "config.no_credentials": "Storage wants an access key, and there is none. Set the variables that the message names, "
    "or name a profile of ~/.aws/config by ?profile=NAME in the URL.",
    "config.passphrase_conflict": "The environment gives another passphrase than the configuration. A variable meant for "
    "one repository must not open, or create, another one; unset it, or take it out of the configuration.",
    "config.secret_in_url": "Credentials do not belong in a repository URL. A URL shows up in process lists, "
    "logs and shell history; use the environment, a profile or a secret file.",
    "config.secret_reference": "A secret must be given as a reference. Write file:PATH, env:NAME, "
    "command:COMMAND, systemd:NAME or keyring:NAME; a secret itself never stands in the configuration.",
    "config.unsupported_source": "This version cannot take a source of that type yet. A newer one may.",
    "config.syntax": "A file of the configuration is not TOML. The message names the line; text stands in quotes, tables "
    "in brackets.",
    "config.unknown_channel": "The configuration names a channel for messages that it does not have. Add [notify.NAME], "
    "or correct the name.",
    "config.unknown_key": "The configuration has a key that means nothing. It is refused so that a slip of the pen does "
    "not silently change what is backed up; `dedup config schema` lists the keys.",
    "config.unknown_repo": "The configuration has no repository of that name. Add [repos.NAME], or correct the name.",
    "config.unknown_retention": "The configuration has no rules of that name. Add [retention.NAME], or correct the name.",
    "config.unknown_source": "The configuration has no source of that name. Add [sources.NAME], or correct the name.",
    "config.unreadable": "The configuration cannot be read, or not be written. Is the path right?",
    "config.unknown_scheme": "The repository URL begins with an unknown scheme. A directory whose name looks "
    "like a URL is written ./NAME.",
    "hook.after_failed": "The command after a snapshot failed or took too long. The snapshot itself is there.",
    "hook.before_failed": "The command before a snapshot failed or took too long. No snapshot was taken of that source.",
}

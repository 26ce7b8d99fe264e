"""Every command: where it is, under which heading, one line of help. No command is imported for this.

A new command is one line here and one module with the function that the line names.
"""

from __future__ import annotations

from typing import NamedTuple

SECTIONS = ("Everyday", "Look inside", "Keep tidy", "Repository", "Setup")


class Entry(NamedTuple):
    name: str
    target: str
    """`module:function`, imported when the command is called or asked for its help."""
    section: str
    summary: str


COMMANDS: tuple[Entry, ...] = (
    Entry("snapshot", "dedupstore.cli.snapshot:snapshot", "Everyday", "Store files as they are now."),
    Entry("restore", "dedupstore.cli.restore:restore", "Everyday", "Bring files back as they were at a time."),
    Entry("check", "dedupstore.cli.check:check", "Everyday", "Prove that what is stored can be restored."),
    Entry("snapshots", "dedupstore.cli.snapshots:snapshots", "Look inside", "List snapshots."),
    Entry("ls", "dedupstore.cli.ls:ls", "Look inside", "List the files in a snapshot."),
    Entry("cat", "dedupstore.cli.cat:cat", "Look inside", "Print one file of a snapshot."),
    Entry("diff", "dedupstore.cli.diff:diff", "Look inside", "Show what changed between two snapshots."),
    Entry("stats", "dedupstore.cli.stats:stats", "Look inside", "Show what takes up how much space."),
    Entry("prune", "dedupstore.cli.prune:prune", "Keep tidy", "Free the space of what no snapshot needs."),
    Entry("repair", "dedupstore.cli.repair:repair", "Keep tidy", "Mend what a check found; never deletes."),
    Entry("init", "dedupstore.cli.init:init", "Repository", "Create an encrypted repository."),
    Entry("repo", "dedupstore.cli.repo:repo", "Repository", "Show a repository and probe its storage."),
    Entry("key", "dedupstore.cli.key:key", "Repository", "Add, list and remove passphrases; the recovery kit."),
    Entry("completion", "dedupstore.cli.completion:completion", "Setup", "Print the completion script of a shell."),
    Entry("version", "dedupstore.cli.version:version", "Setup", "Show the versions of dedup and its libraries."),
    Entry("help", "dedupstore.cli.help:help_", "Setup", "Explain an error code."),
)

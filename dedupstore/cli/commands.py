"""Every command: where it is, under which heading, one line of help. No command is imported for this.

A new command is one line here and one module with the function that the line names.
"""

from __future__ import annotations

from typing import NamedTuple

SECTIONS = ("Everyday", "Look inside", "Keep tidy", "Replicate", "Databases", "Repository", "Setup")


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
    Entry("dump", "dedupstore.cli.dump:dump", "Look inside", "Write a directory of a snapshot as a tar or zip."),
    Entry("find", "dedupstore.cli.find:find", "Look inside", "Find paths by name in all snapshots."),
    Entry("history", "dedupstore.cli.history:history", "Look inside", "Show every version of a path."),
    Entry("mount", "dedupstore.cli.mount:mount", "Look inside", "Show snapshots as a read-only file system."),
    Entry("diff", "dedupstore.cli.diff:diff", "Look inside", "Show what changed between two snapshots."),
    Entry("stats", "dedupstore.cli.stats:stats", "Look inside", "Show what takes up how much space."),
    Entry("forget", "dedupstore.cli.forget:forget", "Keep tidy", "Let go of snapshots that no rule keeps."),
    Entry("undo-forget", "dedupstore.cli.undo_forget:undo_forget", "Keep tidy", "Bring a forgotten snapshot back."),
    Entry("protect", "dedupstore.cli.marks:protect", "Keep tidy", "Let nobody forget a snapshot."),
    Entry("unprotect", "dedupstore.cli.marks:unprotect", "Keep tidy", "End the protection of a snapshot."),
    Entry("tag", "dedupstore.cli.marks:tag", "Keep tidy", "Add tags to a snapshot or take them away."),
    Entry("note", "dedupstore.cli.marks:note", "Keep tidy", "Write a note beside a snapshot."),
    Entry("prune", "dedupstore.cli.prune:prune", "Keep tidy", "Free the space of what no snapshot needs."),
    Entry("extend-locks", "dedupstore.cli.extend_locks:extend_locks", "Keep tidy", "Lock what is needed for longer."),
    Entry("repair", "dedupstore.cli.repair:repair", "Keep tidy", "Mend what a check found; never deletes."),
    Entry("copy", "dedupstore.cli.copy:copy", "Replicate", "Copy snapshots to another repository."),
    Entry("mirror", "dedupstore.cli.mirror:mirror", "Replicate", "Keep the same repository at a second place."),
    Entry("replicas", "dedupstore.cli.replicas:replicas", "Replicate", "Where copies are, how old, how safe."),
    Entry("db", "dedupstore.cli.db:db", "Databases", "Test and list databases; put a restored one in place."),
    Entry("export", "dedupstore.cli.export:export", "Databases", "Write a database of a snapshot as a classic dump."),
    Entry("init", "dedupstore.cli.init:init", "Repository", "Create an encrypted repository."),
    Entry("repo", "dedupstore.cli.repo:repo", "Repository", "Show a repository; trust what its storage shows."),
    Entry("key", "dedupstore.cli.key:key", "Repository", "Add, list and remove passphrases; the recovery kit."),
    Entry("config", "dedupstore.cli.config:config", "Setup", "Check and show the configuration."),
    Entry("completion", "dedupstore.cli.completion:completion", "Setup", "Print the completion script of a shell."),
    Entry("version", "dedupstore.cli.version:version", "Setup", "Show the versions of dedup and its libraries."),
    Entry("help", "dedupstore.cli.help:help_", "Setup", "Explain an error code."),
)

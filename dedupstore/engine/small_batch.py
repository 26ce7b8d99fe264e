"""Small files on their way into many folders of a target, written in few calls."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dedupstore.engine.restore_sink import Failures, Whole
from dedupstore.engine.small_writes import SmallFile, write_files
from dedupstore.engine.target import Folder, Target
from dedupstore.engine.target_metadata import Metadata

MAX_FOLDERS = 32
"""Folders held open by one batch. Every worker has one, and a process often may not have more than 1 024 files open."""


class SmallBatch:
    """One thread's batch. Their folders stay pinned until `close`: a number must not come to mean another folder."""

    def __init__(self, target: Target, metadata: Metadata) -> None:
        self.failures: Failures = []
        self._target = target
        self._metadata = metadata
        self._folders: dict[Folder, int] = {}
        self._files: list[Whole] = []
        self._batch: list[SmallFile] = []

    def add_all(self, files: Sequence[Whole]) -> None:
        """Take files without attributes; some may get written now."""
        folders, plan, name = self._folders, self._metadata.plan, self._target.temporary_name
        for whole in files:
            folder, entry, data = whole
            fd = folders.get(folder)
            if fd is None:
                if len(folders) >= MAX_FOLDERS:
                    self.write()
                    self.close()
                try:
                    fd = folders[folder] = self._target.folders.pin(folder)
                except OSError as exc:
                    self.failures.append((whole, exc))
                    continue
            created, mode, uid, gid = plan(folder, entry)
            self._files.append(whole)
            self._batch.append((fd, name(), entry.name, data, created, mode, uid, gid, entry.mtime))

    def write(self) -> None:
        """Write what was taken so far."""
        files, self._files = self._files, []
        batch, self._batch = self._batch, []
        errors = write_files(batch) if batch else []
        if any(errors):
            for whole, error in zip(files, errors, strict=True):
                if error:
                    self.failures.append((whole, OSError(error, os.strerror(error))))

    def close(self) -> None:
        """Let go of the folders; what was not written by then is not going to be."""
        for folder in self._folders:
            self._target.folders.unpin(folder)
        self._folders.clear()

"""Runs one pipeline and prints what it used as JSON; started by measure.py as `python -I -S child.py SPEC`.

This is a process of its own for one reason: Linux counts the resident memory of the process that spawned
a command into the command's own ru_maxrss. A bare interpreter keeps that floor at about 10 MB, whatever
the harness has loaded. So this file imports as little as it can and nothing of the project.
"""

import json
import os
import signal
import sys
import time


def spawn(argv: list[str], stdin: int, stdout: int, stderr: int) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)]
    # Python ignores SIGPIPE; a child must not inherit that, or `tar` never learns that its reader is gone.
    return os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setsigdef=[signal.SIGPIPE])


def run(commands: list[list[str]], log: int) -> dict[str, object]:
    """Start all commands connected by pipes, wait for all; times and memory are sums over the commands."""
    reader = os.open(os.devnull, os.O_RDONLY)
    pids = []
    began = time.perf_counter()
    for number, argv in enumerate(commands):
        next_reader, writer = os.pipe() if number < len(commands) - 1 else (-1, log)
        pids.append(spawn(argv, reader, writer, log))
        os.close(reader)
        if writer != log:
            os.close(writer)
        reader = next_reader
    ended = [os.wait4(pid, 0) for pid in pids]
    wall = time.perf_counter() - began
    return {
        "wall_seconds": wall,
        "user_seconds": sum(usage.ru_utime for _, _, usage in ended),
        "system_seconds": sum(usage.ru_stime for _, _, usage in ended),
        "peak_rss_bytes": sum(usage.ru_maxrss for _, _, usage in ended) * 1024,
        "exit_codes": [os.waitstatus_to_exitcode(status) for _, status, _ in ended],
    }


def main() -> None:
    spec = json.loads(sys.argv[1])
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    print(json.dumps(run(spec["commands"], log)))


if __name__ == "__main__":
    main()

"""Secrets come from where the user says, or not at all with a clear message (test plan 59-64)."""

from __future__ import annotations

import os
import pty
import sys
import time
import traceback
from pathlib import Path

import pytest

from dedupstore.errors import DedupError, Refused, UsageError
from dedupstore.service import secrets
from dedupstore.service.secrets import MAX_SECRET_BYTES, new_passphrase, passphrase, resolve
from dedupstore.sources.environment import child_environment


def private(path: Path, content: bytes = b"open sesame\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def python(code: str) -> str:
    return f"{sys.executable} -c {code!r}" if "'" not in code else f'{sys.executable} -c "{code}"'


def value(environ: dict[str, str], timeout_seconds: float = 600) -> bytes:
    found = passphrase(environ, timeout_seconds=timeout_seconds)
    assert found is not None
    return found.value


def test_nothing_set_means_ask() -> None:
    assert passphrase({}) is None
    assert passphrase({"DEDUP_PASSPHRASE": ""}) is None


def test_the_first_that_is_set_wins(tmp_path: Path) -> None:
    environ = {
        "DEDUP_PASSPHRASE": "from variable",
        "DEDUP_PASSPHRASE_FILE": str(private(tmp_path / "pass", b"from file")),
        "DEDUP_PASSPHRASE_COMMAND": "echo from command",
    }

    assert value(environ) == b"from variable"
    del environ["DEDUP_PASSPHRASE"]
    assert value(environ) == b"from file"
    del environ["DEDUP_PASSPHRASE_FILE"]
    assert value(environ) == b"from command"


def test_a_new_passphrase_has_its_own_variables() -> None:
    found = new_passphrase({"DEDUP_PASSPHRASE": "old", "DEDUP_NEW_PASSPHRASE": "new"})

    assert found is not None
    assert found.value == b"new"
    assert new_passphrase({"DEDUP_PASSPHRASE": "old"}) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"word", b"word"),
        (b"word\n", b"word"),
        (b"word\r\n", b"word"),
        (b" two words \n", b" two words "),
        (b"word\n\n", b"word\n"),
        ("Z\u00fcrich\n".encode(), "Zürich".encode()),
        ("Zu\u0308rich\n".encode(), "Z\u00fcrich".encode()),
    ],
)
def test_one_line_end_is_not_part_of_the_secret(tmp_path: Path, content: bytes, expected: bytes) -> None:
    assert value({"DEDUP_PASSPHRASE_FILE": str(private(tmp_path / "pass", content))}) == expected


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "secret.empty"), (b"\n", "secret.empty"), (b"\xff\xfe\n", "secret.not_text")]
)
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        value({"DEDUP_PASSPHRASE_FILE": str(private(tmp_path / "pass", content))})

    assert caught.value.code == code


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666, 0o620, 0o602])
def test_a_file_that_is_not_private_is_refused_with_the_chmod_to_run(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "pass", mode=mode)

    with pytest.raises(Refused) as caught:
        value({"DEDUP_PASSPHRASE_FILE": str(path)})

    assert caught.value.exit_code == 8
    assert caught.value.hints == (f"chmod 600 {path}",)


def test_a_file_the_group_can_read_is_used_and_told(tmp_path: Path) -> None:
    found = passphrase({"DEDUP_PASSPHRASE_FILE": str(private(tmp_path / "pass", mode=0o640))})

    assert found is not None
    assert [finding.code for finding in found.findings] == ["secret.file_group_readable"]
    assert "chmod 600" in found.findings[0].message


def test_a_secret_mounted_by_a_container_runtime_may_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_PRIVATE_MOUNTS", (f"{os.path.realpath(tmp_path)}/",))

    assert value({"DEDUP_PASSPHRASE_FILE": str(private(tmp_path / "pass", mode=0o444))}) == b"open sesame"


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            value({"DEDUP_PASSPHRASE_FILE": str(path)})


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = private(tmp_path / "pass", b"")
    os.truncate(path, 1 << 33)

    with pytest.raises(UsageError, match="more than"):
        value({"DEDUP_PASSPHRASE_FILE": str(path)})


def test_a_command_gives_its_output_and_sees_no_passphrase() -> None:
    code = "import os; print(sorted(n for n in os.environ if 'PASSPHRASE' in n), os.environ['KEEP'])"
    environ = {"DEDUP_PASSPHRASE_COMMAND": python(code), "DEDUP_NEW_PASSPHRASE": "new", "KEEP": "kept"}

    assert value(environ) == b"[] kept"


def test_a_command_is_not_given_to_a_shell() -> None:
    assert value({"DEDUP_PASSPHRASE_COMMAND": "echo 'a b' ; $HOME", "PATH": os.environ["PATH"]}) == b"a b ; $HOME"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (python("raise SystemExit(7)"), "ended with exit code 7"),
        (python("import os; os.kill(os.getpid(), 9)"), "was killed by signal 9"),
        ("/nonexistent/program", "cannot run the command"),
        ("'unclosed", "cannot run the command"),
        ("  ", "cannot run the command"),
        (python("pass"), "empty secret"),
    ],
)
def test_a_command_that_fails_is_a_clear_error(command: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        value({"DEDUP_PASSPHRASE_COMMAND": command})

    assert caught.value.exit_code == 2


def test_a_command_that_hangs_is_stopped() -> None:
    with pytest.raises(UsageError, match=r"did not finish within 0\.3 s"):
        value({"DEDUP_PASSPHRASE_COMMAND": python("input = __import__('time').sleep(600)")}, timeout_seconds=0.3)


def test_a_command_that_closes_its_output_and_hangs_is_stopped() -> None:
    with pytest.raises(UsageError, match="did not finish"):
        value(
            {"DEDUP_PASSPHRASE_COMMAND": python("import os, time; os.close(1); time.sleep(600)")}, timeout_seconds=0.3
        )


def test_what_a_command_started_is_stopped_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    command = f"sh -c 'sleep 600 & echo $! > {path}; sleep 600'"

    with pytest.raises(UsageError, match="did not finish"):
        value({"DEDUP_PASSPHRASE_COMMAND": command, "PATH": os.environ["PATH"]}, timeout_seconds=0.5)

    assert ended(int(path.read_text()))


def test_a_command_may_ask_at_the_terminal_and_gives_it_back() -> None:
    # A process of its own, whose terminal is one that we type into.
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - another process
        try:
            asks = {"DEDUP_PASSPHRASE_COMMAND": "sh -c 'read x < /dev/tty; echo $x'", "PATH": os.environ["PATH"]}
            same = value(asks, timeout_seconds=20) == b"typed" and os.tcgetpgrp(0) == os.getpgrp()
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    os.write(terminal, b"typed\n")

    _, status = os.waitpid(child, 0)

    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0


def ended(pid: int) -> bool:
    """Whether a process has ended, after a moment at most; who it belonged to may not have looked yet."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_gigabyte_of_output_is_not_kept() -> None:
    with pytest.raises(UsageError, match="prints too much"):
        value({"DEDUP_PASSPHRASE_COMMAND": python("while True: print(10000 * chr(120))")})


def test_a_descriptor_is_read_and_closed() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe\n")
    os.close(writer)

    assert value({"DEDUP_PASSPHRASE_FD": str(reader)}) == b"through a pipe"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


@pytest.mark.parametrize("text", ["999", "three", "-1"])
def test_a_descriptor_that_is_not_open_is_named(text: str) -> None:
    with pytest.raises(UsageError, match=f"DEDUP_PASSPHRASE_FD={text}"):
        value({"DEDUP_PASSPHRASE_FD": text})


def test_references_of_the_configuration(tmp_path: Path) -> None:
    path = private(tmp_path / "pass", b"word\n")
    environ = {"NAME": "in env", "CREDENTIALS_DIRECTORY": str(tmp_path), "PATH": os.environ["PATH"]}

    assert resolve(f"file:{path}", environ).value == b"word"
    assert resolve("env:NAME", environ).value == b"in env"
    assert resolve("command:echo out", environ).value == b"out"
    assert resolve("systemd:pass", environ).value == b"word"


@pytest.mark.parametrize(
    "reference", ["hunter2", "file:", "plain:hunter2", "env:UNSET", "systemd:../pass", "systemd:pass"]
)
def test_a_reference_that_names_nothing_is_refused_without_repeating_it(reference: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(reference, {})

    assert "hunter2" not in str(caught.value) + caught.value.why


def test_no_error_and_no_representation_shows_the_secret(tmp_path: Path) -> None:
    found = passphrase({"DEDUP_PASSPHRASE": "hunter2"})
    assert "hunter2" not in repr(found)

    for content in (b"hunter2\xff", b"hunter2" * MAX_SECRET_BYTES):
        with pytest.raises(DedupError) as caught:
            value({"DEDUP_PASSPHRASE_FILE": str(private(tmp_path / "pass", content))})
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_children_do_not_inherit_any_passphrase() -> None:
    environ = {"DEDUP_PASSPHRASE_FILE": "x", "DEDUP_NEW_PASSPHRASE": "y", "DEDUP_REPO": "/r", "HOME": "/h"}

    assert child_environment(environ) == {"DEDUP_REPO": "/r", "HOME": "/h"}


def test_hooks_and_commands_that_print_a_secret_see_nothing_that_opens_the_storage() -> None:
    storage = {
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_PROFILE": "p",
        "OSS_ACCESS_KEY_SECRET": "o",
        "TENCENTCLOUD_SECRET_KEY": "t",
    }
    environ = {**storage, "DEDUP_PASSPHRASE": "x", "DEDUP_KEY_FILE": "/k", "HOME": "/h"}
    code = "import os; print(sorted(n for n in os.environ if n.startswith(('AWS', 'OSS', 'TEN', 'DEDUP'))))"

    assert secrets.bare_environment(environ) == {"HOME": "/h"}
    assert secrets.bare_environment(environ, ["AWS_PROFILE", "DEDUP_KEY_FILE"]) == {"HOME": "/h", "AWS_PROFILE": "p"}
    assert value({**storage, "DEDUP_PASSPHRASE_COMMAND": python(code)}) == b"[]"
    named = {"DEDUP_PASS_ENVIRONMENT": "AWS_PROFILE OSS_X"}
    assert value({**storage, **named, "DEDUP_PASSPHRASE_COMMAND": python(code)}) == (
        b"['AWS_PROFILE', 'DEDUP_PASS_ENVIRONMENT']"
    )


def test_the_target_of_a_copy_has_secrets_of_its_own() -> None:
    environ = {
        "DEDUP_PASSPHRASE": "source",
        "DEDUP_KEY_FILE": "/source.key",
        "DEDUP_TO_PASSPHRASE": "target",
        "PATH": "/bin",
    }

    seen = secrets.of_target(environ)
    chosen = secrets.of_target(environ, passphrase_file="/etc/target.pass")

    assert (seen["DEDUP_PASSPHRASE"], seen["DEDUP_KEY_FILE"], seen["PATH"]) == ("target", "", "/bin")
    assert (chosen["DEDUP_PASSPHRASE"], chosen["DEDUP_PASSPHRASE_FILE"]) == ("", "/etc/target.pass")
    assert not any("source" in value for value in chosen.values())


def test_no_child_sees_the_secrets_of_the_target() -> None:
    assert child_environment({"DEDUP_TO_PASSPHRASE": "x", "DEDUP_TO_PASSPHRASE_FD": "3", "A": "b"}) == {"A": "b"}

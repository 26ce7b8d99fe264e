"""What is asked beside a dump: its failure ends the dump, and nobody waits for it in vain."""

from __future__ import annotations

import threading

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.errors import Interrupted, SourceFailed
from dedupstore.sources.beside import Accompanied, Beside


class _Dump:
    def __init__(self, failure: SourceFailed | None = None) -> None:
        self._failure = failure

    def readinto(self, view: memoryview, /) -> int:
        if self._failure is not None:
            raise self._failure
        view[:1] = b"x"
        return 1


def _denied(token: CancelToken) -> str:
    raise SourceFailed("a right is missing")


def _until_stopped(token: CancelToken) -> str:
    stopped = threading.Event()
    while not token.cancelled:
        stopped.wait(0.01)
    token.check()
    return ""


def test_an_answer_is_had_while_the_dump_is_read() -> None:
    with Beside(lambda token: "answer", CancelToken()) as asked:
        assert Accompanied(_Dump(), asked).readinto(memoryview(bytearray(8))) == 1
        assert asked.answer() == "answer"


def test_a_question_that_fails_ends_the_dump() -> None:
    with Beside(_denied, CancelToken()) as asked:
        with pytest.raises(SourceFailed, match="a right is missing"):
            asked.answer()
        with pytest.raises(SourceFailed, match="a right is missing"):
            Accompanied(_Dump(), asked).readinto(memoryview(bytearray(8)))


def test_when_both_fail_the_question_tells_why() -> None:
    may_fail = threading.Event()

    def denied_later(token: CancelToken) -> str:
        may_fail.wait(10)
        return _denied(token)

    class Dump(_Dump):
        def readinto(self, view: memoryview, /) -> int:
            may_fail.set()
            return super().readinto(view)

    with Beside(denied_later, CancelToken()) as asked:
        with pytest.raises(SourceFailed, match="a right is missing"):
            Accompanied(Dump(SourceFailed("mariadb-dump ended")), asked).readinto(memoryview(bytearray(8)))


def test_a_dump_that_fails_alone_tells_it_itself() -> None:
    with Beside(lambda token: "answer", CancelToken()) as asked:
        with pytest.raises(SourceFailed, match="mariadb-dump ended"):
            Accompanied(_Dump(SourceFailed("mariadb-dump ended")), asked).readinto(memoryview(bytearray(8)))


def test_who_is_told_to_stop_does_not_wait_for_the_answer() -> None:
    cancel = CancelToken()
    cancel.cancel()
    with Beside(_until_stopped, cancel) as asked, pytest.raises(Interrupted):
        asked.answer()


def test_leaving_it_stops_the_asking() -> None:
    with Beside(_until_stopped, CancelToken()) as asked:
        pass

    with pytest.raises(Interrupted):
        asked.answer()

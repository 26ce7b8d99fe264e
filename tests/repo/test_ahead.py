"""A result is computed while nobody waits for it, and its error is raised where it is asked for."""

from __future__ import annotations

import threading

import pytest

from dedupstore.repo.ahead import Ahead


def test_the_work_goes_on_while_nobody_waits() -> None:
    may_end = threading.Event()
    ahead = Ahead(lambda: may_end.wait(600))

    # Were it computed only when it is asked for, nobody would ever let it end.
    may_end.set()

    assert ahead.result() is True
    assert ahead.result() is True


def test_it_is_computed_once_and_in_another_thread() -> None:
    threads = []

    ahead = Ahead(lambda: threads.append(threading.current_thread()))

    assert ahead.result() is None
    assert ahead.result() is None
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    def fail() -> int:
        raise LookupError("nothing there")

    ahead = Ahead(fail)

    for _ in range(2):
        with pytest.raises(LookupError, match="nothing there"):
            ahead.result()

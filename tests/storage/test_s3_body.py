"""What is put, as botocore reads it and as it is sent."""

from __future__ import annotations

import pytest

from dedupstore.storage.s3_body import Body
from tests.storage.test_throttle import MB, Slept


def test_a_body_is_read_and_sent_as_its_parts_one_after_another() -> None:
    body = Body([b"first", b"", bytearray(b"second"), memoryview(b"third")])

    for _ in range(2):
        read = [bytes(piece) for piece in iter(lambda: body.read(4), b"")]
        assert (read, body.tell()) == ([b"firs", b"t", b"seco", b"nd", b"thir", b"d"], len(body))
        body.seek(0)
    assert b"".join(body.outgoing) == b"".join(body.outgoing) == b"firstsecondthird"
    assert (len(Body([b""])), Body([]).read(9)) == (0, b"")


def test_a_body_is_hashed_at_once_and_sent_at_its_pace() -> None:
    slept = Slept()
    body = Body([bytes(MB), bytes(2 * MB)], slept.pace((0, MB)))

    while body.read(1 << 20):
        pass
    before = slept.seconds
    sent = sum(map(len, body.outgoing))

    assert (before, sent) == (0, 3 * MB)
    assert slept.seconds == pytest.approx(3, abs=0.2)

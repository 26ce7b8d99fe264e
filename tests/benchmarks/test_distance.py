"""The detour to a server takes as long as it is told, counts requests, and changes nothing of what passes."""

import http.client
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import distance
from benchmarks.distance import Requests

BODY = bytes(range(256)) * 4096
MILLISECONDS = 40


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a server that is far away, and the log of what it is asked."""
    log = tmp_path / "log"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        argv = (sys.executable, "-I", distance.__file__, str(server.server_port), str(MILLISECONDS), str(log))
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield int(process.stdout.readline()), log
            process.kill()
        server.shutdown()


def test_every_answer_comes_a_round_trip_later(far: tuple[int, Path]) -> None:
    port, log = far
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took = []
    for number in range(3):
        began = time.perf_counter()
        connection.request("PUT", f"/{number}", BODY)
        answer = connection.getresponse().read()
        took.append(time.perf_counter() - began)
        assert answer == BODY
    connection.close()

    assert min(took[1:]) >= MILLISECONDS / 1000
    assert took[0] >= 2 * MILLISECONDS / 1000, "a connection has to be made first"
    assert [line.split()[:2] for line in log.read_text().splitlines()] == [["PUT", f"/{number}"] for number in range(3)]


@pytest.mark.parametrize("piece", [1, 3, 17, 10_000])
def test_requests_are_told_apart_wherever_they_are_cut(piece: int) -> None:
    sent = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nPUT /b HTTP/1.1\r\ncontent-length: 18\r\n\r\nGET /no HTTP/1.1\r\nDELETE /c HTTP/1.1\r\n\r\n"
    found: list[str] = []
    requests = Requests(found.append)

    for start in range(0, len(sent), piece):
        requests.feed(sent[start : start + piece])

    assert [line.split()[1] for line in found] == ["/a", "/b", "/c"]


def test_a_body_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length is not known"):
        Requests(print).feed(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

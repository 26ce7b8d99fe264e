"""A server on the loopback device that stands before an S3 server and does what networks and servers do on bad days.

A client speaks to it as if it were the server. A fault is chosen for each request by a function of the test; what is not
chosen is passed on, byte for byte. It can also be a proxy (`HTTP_PROXY`, `HTTPS_PROXY`), and speak TLS.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.s3_servers import S3Server


class Fault(Enum):
    """What happens to a request."""

    SILENCE = auto()
    """Nothing comes back until the client has had enough; the server never hears of it."""
    RESET = auto()
    """The connection is reset before the server hears of it."""
    LOST_ANSWER = auto()
    """The server does it, and the connection is reset before the answer: whoever tries again does it twice."""
    SLOW_DOWN = auto()
    """503 SlowDown."""
    SKEWED = auto()
    """403 RequestTimeTooSkewed."""
    CUT = auto()
    """Half of the body of an answer, then the end of the connection."""
    FLIPPED = auto()
    """The whole answer, with one wrong byte in the middle."""
    PAGE = auto()
    """200 and a page for people, as hotels and failing proxies answer."""
    ENDLESS = auto()
    """An answer that does not say how long it is and does not end."""
    NO_RANGE = auto()
    """The whole object where a part was asked for."""
    DRIP = auto()
    """The body of an answer in eight pieces with pauses of 20 ms between: none is as long as a timeout, all together are."""


@dataclass(frozen=True)
class Request:
    """One request as a fault's choice sees it."""

    verb: str
    path: str
    """With the query."""
    number: int
    """The how many-th of all it is, from 1 on."""


Choose = Callable[[Request], Fault | None]


@dataclass
class Proxy:
    """A running one. `choose` may be changed at any time."""

    server: S3Server
    choose: Choose = lambda request: None
    requests: list[Request] = field(default_factory=list)
    faults: int = 0
    tunnels: int = 0
    """How many `CONNECT` it was asked for."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, verb: str, path: str) -> Fault | None:
        with self.lock:
            request = Request(verb, path, len(self.requests) + 1)
            self.requests.append(request)
            fault = self.choose(request)
            self.faults += fault is not None
        return fault


@contextmanager
def before(server: S3Server, *, tls: tuple[Path, Path] | None = None, scheme: str = "http") -> Iterator[Proxy]:
    """A proxy before `server` until the block ends; with `tls`, files of a certificate and its key, it speaks TLS."""
    target = urlsplit(server.endpoint)
    listening = _Listening(("127.0.0.1", 0), _Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        scheme = "https"
    endpoint = f"{scheme}://127.0.0.1:{listening.server_address[1]}"
    listening.proxy = Proxy(S3Server(endpoint, server.vendor, server.access, server.secret))
    listening.target = (str(target.hostname), int(target.port or 80))
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield listening.proxy
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: Proxy
    target: tuple[str, int]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body go out as two writes; without this the second waits 40 ms for word of the first.
    disable_nagle_algorithm = True
    server: _Listening

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _pass_on(self) -> None:
        fault = self.server.proxy.begin(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault is Fault.SILENCE:
            # Until the client hangs up: that is when there is something to read, namely the end.
            select.select([self.connection], [], [], 60)
            self._hang_up()
        elif fault is Fault.RESET:
            self._reset()
        elif fault is Fault.SLOW_DOWN:
            self._say(503, "SlowDown", "Please reduce your request rate.")
        elif fault is Fault.SKEWED:
            self._say(
                403, "RequestTimeTooSkewed", "The difference between the request time and the server's is too large."
            )
        elif fault is Fault.PAGE:
            self._answer(200, "text/html", b"<html><body>Please accept our conditions.</body></html>")
        elif fault is Fault.ENDLESS:
            self._never_end()
        else:
            if fault is Fault.NO_RANGE:
                del self.headers["Range"]
            self._ask(body, fault)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on

    def do_CONNECT(self) -> None:
        """A tunnel to wherever the client asks for, as proxies for TLS give it."""
        with self.server.proxy.lock:
            self.server.proxy.tunnels += 1
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: there, there: self.connection}
            while True:
                ready, _, _ = select.select(list(ends), [], [], 60)
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        self.close_connection = True
                        return
                    ends[end].sendall(data)

    def _ask(self, body: bytes, fault: Fault | None) -> None:
        parts = urlsplit(self.path)
        # To a proxy a client names the whole URL; to a server the path.
        path = self.path if not parts.scheme else self.path.split("/", 3)[3].join(("/", ""))
        upstream = http.client.HTTPConnection(*self.server.target, timeout=60)
        try:
            upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if fault is Fault.LOST_ANSWER:
            self._reset()
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "server", "date"):
                self.send_header(name, value)
        if "Content-Length" not in answer.headers and self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self._send(content, fault)

    def _send(self, content: bytes, fault: Fault | None) -> None:
        if fault is Fault.CUT:
            self.wfile.write(content[: len(content) // 2])
            self._hang_up()
        elif fault is Fault.FLIPPED:
            middle = len(content) // 2
            self.wfile.write(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        elif fault is Fault.DRIP:
            step = max(1, len(content) // 8)
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                self.wfile.flush()
                time.sleep(0.02)
        else:
            self.wfile.write(content)

    def _say(self, status: int, code: str, message: str) -> None:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
        self._answer(status, "application/xml", body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _never_end(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            while self.command != "HEAD":
                self.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    def _reset(self) -> None:
        """Not the polite end of a connection: the one of a machine that lost its power."""
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
        self.connection.close()

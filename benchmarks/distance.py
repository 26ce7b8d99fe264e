"""`python -I distance.py PORT MILLISECONDS LOG`: a server on the loopback device, as far away as that is.

Prints its own port. What arrives is passed on to 127.0.0.1:PORT half of the round trip later, and answers as much later, at any
rate; a new connection costs one round trip more, as it does on a wire. Each request of HTTP is a line of LOG.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

READ_BYTES = 1 << 18
ON_THE_WAY = 64
"""Pieces that may be under way in each direction: 16 MB, 1.6 GB/s at 10 ms."""
END_OF_HEAD = b"\r\n\r\n"


class Requests:
    """Finds where requests begin in what a client sends."""

    def __init__(self, found: Callable[[str], None]) -> None:
        self._found = found
        self._head = b""
        self._body = 0

    def feed(self, data: bytes) -> None:
        """The next bytes, cut anywhere. Raises ValueError for a body whose length is not told first."""
        while data:
            if self._body:
                skipped = min(self._body, len(data))
                self._body -= skipped
                data = data[skipped:]
                continue
            head, end, data = (self._head + data).partition(END_OF_HEAD)
            if not end:
                self._head = head
                return
            self._head = b""
            self._begin(head.decode("latin-1").split("\r\n"))

    def _begin(self, lines: list[str]) -> None:
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if "transfer-encoding" in fields:
            raise ValueError("a request whose length is not known cannot be told from the next")
        self._body = int(fields.get("content-length", 0))
        self._found(lines[0])


async def carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    seconds: float,
    look: Callable[[bytes], None],
    first: float = 0.0,
) -> None:
    """All that comes, each piece `seconds` later; nothing before `first` more seconds have passed."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)
    opened = loop.time() + first

    async def deliver() -> None:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    delivery = asyncio.create_task(deliver())
    try:
        while True:
            data = await reader.read(READ_BYTES)
            look(data)
            await pieces.put((max(loop.time(), opened) + seconds, data))
            if not data:
                break
        await delivery
    finally:
        delivery.cancel()


async def serve(port: int, round_trip: float, log: int) -> None:
    """Until the process is ended."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
        requests = Requests(lambda line: _log(log, line))
        try:
            await asyncio.gather(
                carry(reader, back, round_trip / 2, requests.feed, first=round_trip),
                carry(there, writer, round_trip / 2, lambda data: None),
            )
        except ConnectionError:
            pass
        finally:
            back.close()
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=READ_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _log(log: int, line: str) -> None:
    os.write(log, f"{line}\n".encode())


def main(port: str, milliseconds: str, log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    asyncio.run(serve(int(port), float(milliseconds) / 1000, descriptor))


if __name__ == "__main__":
    main(*sys.argv[1:])

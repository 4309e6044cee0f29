"""A proxy before a real S3 server in tests: it passes requests on, and does what its rules say to those that they match.

Faults happen in real sockets: the client's library sees what a bad network, a busy store or a dying server would show it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlparse

ERRORS = {
    "503": (503, "SlowDown"),
    "500": (500, "InternalError"),
    "429": (429, "TooManyRequests"),
    "403": (403, "AccessDenied"),
    "expired": (403, "ExpiredToken"),
    "409": (409, "ConditionalRequestConflict"),
    "501": (501, "NotImplemented"),
}
FOREVER = 1 << 30


class _Over(Exception):
    """This connection ends here."""


@dataclass
class Rule:
    """`count` requests that match, after `skip` of them, get `action`; `value`: bytes or seconds, as the action needs.

    Actions: a key of ERRORS; before the server hears of it: reset, hang, stall (`value` seconds); on the answer: lost (forwarded,
    the answer dropped), torn (cut short, `value` bytes of the body sent), reset_at, stall_at (at byte `value`), flip (of byte
    `value`), ignored (a 412 becomes a 200, as from a store that does not know conditional writes).
    """

    method: str
    path: str
    action: str
    value: float = 0
    skip: int = 0
    count: int = 1
    hits: int = 0

    def takes(self, method: str, path: str) -> bool:
        if not re.search(self.method, method) or not re.search(self.path, path):
            return False
        self.skip -= 1
        if self.skip >= 0 or self.hits >= self.count:
            return False
        self.hits += 1
        return True


@dataclass
class Proxy:
    """`endpoint` for the client; `rules` may change while it runs; `seen` holds `METHOD path` of every request."""

    endpoint: str
    rules: list[Rule] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def add(self, method: str, path: str, action: str, value: float = 0, *, skip: int = 0, count: int = FOREVER) -> Rule:
        self.rules.append(Rule(method, path, action, value, skip, count))
        return self.rules[-1]

    def heal(self) -> None:
        self.rules.clear()
        self.seen.clear()


@contextmanager
def before(server: str) -> Iterator[Proxy]:
    """Run a proxy before `server` (http://host:port) in a thread of its own."""
    loop = asyncio.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy = Proxy(f"http://127.0.0.1:{listening.getsockname()[1]}")
        where = urlparse(server)
        starting = asyncio.start_server(lambda r, w: _serve(proxy, str(where.hostname), int(where.port or 80), r, w), sock=listening)
        running = loop.run_until_complete(starting)
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            asyncio.run_coroutine_threadsafe(_stop(running), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _stop(running: asyncio.Server) -> None:
    running.close()
    open_connections = asyncio.all_tasks() - {asyncio.current_task()}
    for task in open_connections:
        task.cancel()
    await asyncio.gather(*open_connections, return_exceptions=True)


async def _serve(proxy: Proxy, host: str, port: int, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    """One connection of the client: its requests go one after another over one connection to the server."""
    server, to_server = await asyncio.open_connection(host, port)
    answer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each body waits for 40 ms
    with suppress(_Over, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = await client.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            if re.search(rb"(?i)\r\nexpect: 100-continue", head):
                answer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = re.sub(rb"(?i)\r\nexpect: 100-continue", b"", head)
            body = b"".join([piece async for piece in _body(head, client)])
            proxy.seen.append(f"{method} {path}")
            rule = next((one for one in list(proxy.rules) if one.takes(method, path)), None)
            if rule and not await _goes_on(rule, method, answer):
                continue
            to_server.write(head + body)
            await _pass_back(rule, method, server, answer)
    to_server.close()
    answer.close()


async def _goes_on(rule: Rule, method: str, answer: asyncio.StreamWriter) -> bool:
    """What a rule does before the server hears of the request.  False: it was answered here."""
    if rule.action in ERRORS:
        status, code = ERRORS[rule.action]
        page = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
        head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(page)}\r\n\r\n".encode()
        answer.write(head + (b"" if method == "HEAD" else page))
        return False
    if rule.action == "reset":
        _reset(answer)
    if rule.action in ("hang", "stall"):
        await asyncio.sleep(rule.value if rule.action == "stall" else FOREVER)
    return True


async def _pass_back(rule: Rule | None, method: str, server: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    head = await server.readuntil(b"\r\n\r\n")
    action = rule.action if rule else ""
    at = int(rule.value) if rule else 0
    if action == "lost":
        await _drain(head, method, server)
        _reset(answer)
    if action == "ignored" and b" 412 " in head.split(b"\r\n", 1)[0]:
        await _drain(head, method, server)
        head = b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n'
    answer.write(head)
    sent = 0
    async for piece in _body(head, server, method):
        inside = sent <= at < sent + len(piece)
        if action == "flip" and inside:
            piece = piece[: at - sent] + bytes([piece[at - sent] ^ 0xFF]) + piece[at - sent + 1 :]
        if action in ("torn", "reset_at", "stall_at") and inside:
            answer.write(piece[: at - sent])
            await answer.drain()
            if action == "reset_at":
                _reset(answer)
            if action == "torn":
                raise _Over
            await asyncio.sleep(FOREVER)
        answer.write(piece)
        await answer.drain()
        sent += len(piece)


async def _drain(head: bytes, method: str, server: asyncio.StreamReader) -> None:
    async for _ in _body(head, server, method):
        pass


async def _body(head: bytes, stream: asyncio.StreamReader, method: str = "") -> AsyncIterator[bytes]:
    """The raw bytes of a body in pieces, chunk sizes included where it is chunked."""
    if method == "HEAD" or re.match(rb"HTTP/1.1 (1\d\d|204|304)", head):
        return
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        size = -1
        while size:
            line = await stream.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await stream.readexactly(size + 2)
        return
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    left = int(length.group(1)) if length else 0
    while left:
        piece = await stream.read(min(left, 1 << 16))
        if not piece:
            raise _Over
        left -= len(piece)
        yield piece


def _reset(answer: asyncio.StreamWriter) -> None:
    """An RST, not an orderly end."""
    answer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answer.transport.abort()
    raise _Over

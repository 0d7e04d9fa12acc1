"""Health and metrics over HTTP: /healthz, /readyz and /metrics."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from rdsiam.proxy.acceptor import Acceptor

__all__ = ["Answer", "serve"]

#: Bytes of a request at most, and seconds for it.
_LONGEST = 8192
_SECONDS = 10
#: Requests at one time; the oldest one gives way to another, so that slow clients keep no probe out.
_AT_ONCE = 50


@dataclass(frozen=True)
class Answer:
    """An answer to a request."""

    status: HTTPStatus
    text: str
    content_type: str = "text/plain; charset=utf-8"


def serve(listening: socket.socket, pages: Mapping[str, Callable[[], Awaitable[Answer]]]) -> Acceptor:
    """Serve pages on a socket.

    :param pages: path → the function that makes its answer.
    """
    #: The oldest one first.
    running: dict[asyncio.Task[None] | None, None] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(running) >= _AT_ONCE:
            slowest = next(iter(running))
            del running[slowest]
            if slowest is not None:
                slowest.cancel()
        task = asyncio.current_task()
        running[task] = None
        try:
            async with asyncio.timeout(_SECONDS):
                writer.write(await _answer(reader, pages))
                await writer.drain()
        except (TimeoutError, asyncio.CancelledError):
            writer.transport.abort()  # it may never read what was written
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has left, or sent no request
        finally:
            running.pop(task, None)
            writer.close()

    return Acceptor(listening, lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=_LONGEST), handle))


async def _answer(reader: asyncio.StreamReader, pages: Mapping[str, Callable[[], Awaitable[Answer]]]) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return _bytes(Answer(HTTPStatus.BAD_REQUEST, "bad request\n"), False)
    method, path = words[0], words[1].partition("?")[0]
    if method not in ("GET", "HEAD"):
        return _bytes(Answer(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n"), False)
    page = pages.get(path)
    answer = await page() if page is not None else Answer(HTTPStatus.NOT_FOUND, f"known are {', '.join(pages)}\n")
    return _bytes(answer, method == "HEAD")


def _bytes(answer: Answer, only_head: bool) -> bytes:
    body = answer.text.encode()
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if only_head else body)

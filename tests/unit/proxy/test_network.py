"""The way to a database: names, addresses, certificates; a token has nothing to go into before the name is proven."""

import asyncio
import shutil
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from localcloud.core.certificates import Authority
from rdsiam.proxy import network
from rdsiam.proxy.contracts import UpstreamFailed
from rdsiam.proxy.network import Names, Trust, connect, start_tls
from rdsiam.proxy.peer import Peer, PeerClosed
from rdsiam.tokens import trust
from tests.unit.proxy.peers import run

HOST = "orders.c9akciq32abc.eu-west-1.rds.amazonaws.com"
PROXY = "orders.proxy-c9akciq32abc.eu-west-1.rds.amazonaws.com"
OTHER = "billing.c9akciq32abc.eu-west-1.rds.amazonaws.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def trusted(authority, monkeypatch, tmp_path) -> Iterator[Path]:
    """Let RDSIAM_CA name a file of the authority."""
    path = tmp_path / "ca.pem"
    shutil.copy(authority.path, path)
    monkeypatch.setenv("RDSIAM_CA", str(path))
    trust.ca_file.cache_clear()
    yield path
    trust.ca_file.cache_clear()


class Server:
    """A TLS server that notes every byte inside TLS."""

    def __init__(self) -> None:
        self.received = b""
        self.port = 0


@asynccontextmanager
async def serving(authority: Authority, folder: Path, *names: str) -> AsyncIterator[Server]:
    files = authority.issue(folder, list(names))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    noted = Server()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                noted.received += data
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0, ssl=context)
    noted.port = server.sockets[0].getsockname()[1]
    async with server:
        yield noted


async def log_in(port: int, host: str = HOST, seconds: float = 5) -> Peer:
    """Do as a protocol does: connect, verify, and only then send the token."""
    peer = await connect([("127.0.0.1", port)], host, seconds)
    await start_tls(peer, Trust().context(host), host, seconds)
    peer.write(b"token")
    return peer


def test_a_verified_server_gets_the_token(authority, trusted, tmp_path):
    async def main() -> bytes:
        async with serving(authority, tmp_path, HOST) as server:
            peer = await log_in(server.port)
            assert peer.tls is not None
            assert peer.tls.version() in ("TLSv1.2", "TLSv1.3")
            peer.close()
            await peer.closed()
            for _ in range(100):
                if server.received:
                    break
                await asyncio.sleep(0.01)
            return server.received

    assert run(main) == b"token"


@pytest.mark.parametrize("names", [[OTHER], ["localhost"], ["*.example.com"], [HOST + ".example.com"], ["127.0.0.1"]])
def test_a_name_that_leads_to_another_machine_fails_before_the_token(authority, trusted, tmp_path, names):
    async def main() -> tuple[UpstreamFailed, bytes]:
        async with serving(authority, tmp_path, *names) as server:
            with pytest.raises(UpstreamFailed) as caught:
                await log_in(server.port)
            await asyncio.sleep(0.05)
            return caught.value, server.received

    error, received = run(main)
    assert (error.code, received) == ("tls", b"")
    assert "another name" in str(error)
    assert HOST in str(error)


@pytest.mark.parametrize("host", [HOST, PROXY])
def test_an_authority_that_is_not_trusted_fails_before_the_token(stranger, authority, trusted, tmp_path, host):
    async def main() -> tuple[UpstreamFailed, bytes]:
        async with serving(stranger, tmp_path, host) as server:
            with pytest.raises(UpstreamFailed) as caught:
                await log_in(server.port, host)
            await asyncio.sleep(0.05)
            return caught.value, server.received

    error, received = run(main)
    assert (error.code, received) == ("tls", b"")
    assert "not trusted" in str(error)
    assert "RDSIAM_CA" in str(error)


@pytest.mark.parametrize("host", [HOST, PROXY])
def test_without_a_setting_the_authorities_of_rds_and_the_public_ones_count(authority, tmp_path, monkeypatch, host):
    monkeypatch.delenv("RDSIAM_CA", raising=False)
    trust.ca_file.cache_clear()
    context = Trust().context(host)
    wanted = "Amazon Web Services, Inc." if host == HOST else "Amazon"
    assert any(wanted in str(each["subject"]) for each in context.get_ca_certs())

    async def main() -> str:
        async with serving(authority, tmp_path, host) as server:
            with pytest.raises(UpstreamFailed) as caught:
                await log_in(server.port, host)
            return caught.value.code

    assert run(main) == "tls"


def test_a_context_verifies_and_refuses_old_tls(trusted):
    context = Trust().context(HOST)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_contexts_are_made_once_for_each_file_and_again_after_a_change(authority, stranger, trusted):
    trusting = Trust()
    first = trusting.context(HOST)
    assert trusting.context(OTHER) is first
    trusted.write_bytes(authority.path.read_bytes() + stranger.path.read_bytes())
    second = trusting.context(HOST)
    assert second is not first
    assert len(second.get_ca_certs()) == 2
    assert trusting.context(HOST) is second


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_authorities_that_become_unreadable_fail_with_the_file(trusted, content):
    trusting = Trust()
    trusting.context(HOST)
    trusted.write_bytes(content)
    with pytest.raises(UpstreamFailed) as caught:
        trusting.context(HOST)
    assert caught.value.code == "tls"
    assert "ca.pem" in str(caught.value)
    trusted.unlink()
    with pytest.raises(UpstreamFailed, match=r"ca\.pem"):
        trusting.context(HOST)


async def _close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"E\0\0\0\x0eFATAL\x1b[31m no TLS\r\n" * 50)
    await writer.drain()
    writer.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass
    writer.close()


@pytest.mark.parametrize("behave", [_close, _garbage, _silent])
def test_a_server_without_tls_fails_in_time(trusted, behave):
    async def main() -> UpstreamFailed:
        async with await asyncio.start_server(behave, "127.0.0.1", 0) as server:
            with pytest.raises(UpstreamFailed) as caught:
                await log_in(server.sockets[0].getsockname()[1], seconds=0.5)
            return caught.value

    began = time.monotonic()
    error = run(main)
    assert error.code == "tls"
    assert str(error).isprintable()
    assert time.monotonic() - began < 3


def test_a_failed_handshake_leaves_no_connection(authority, trusted, tmp_path):
    async def main() -> None:
        async with serving(authority, tmp_path, OTHER) as server:
            peer = await connect([("127.0.0.1", server.port)], HOST, 5)
            with pytest.raises(UpstreamFailed):
                await start_tls(peer, Trust().context(HOST), HOST, 5)
            await peer.closed()
            with pytest.raises(PeerClosed):
                peer.write(b"token")

    run(main)


def closed_port(ip: str = "127.0.0.1") -> int:
    with socket.create_server((ip, 0)) as server:
        return int(server.getsockname()[1])


def test_the_next_address_is_tried(authority, trusted, tmp_path):
    async def main() -> tuple[str, int]:
        async with serving(authority, tmp_path, HOST) as server:
            peer = await connect([("127.0.0.2", server.port), ("127.0.0.1", server.port)], HOST, 5)
            peer.close()
            return peer.transport.get_extra_info("peername")[0], server.port

    assert run(main)[0] == "127.0.0.1"


def test_an_address_that_swallows_packets_takes_its_share_of_the_time_only(authority, trusted, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "_LEAST", 0.2)

    async def main() -> float:
        with socket.socket() as full:
            full.bind(("127.0.0.3", 0))
            full.listen(0)
            waiting = []
            for _ in range(4):  # until the backlog is full, and SYNs are dropped
                each = socket.socket()
                each.setblocking(False)
                each.connect_ex(full.getsockname())
                waiting.append(each)
            async with serving(authority, tmp_path, HOST) as server:
                began = time.monotonic()
                peer = await connect([full.getsockname()[:2], ("127.0.0.1", server.port)], HOST, 1)
                peer.close()
                for each in waiting:
                    each.close()
                return time.monotonic() - began

    assert 0.3 < run(main) < 0.9


def test_no_address_that_answers_is_an_error_in_doctors_words():
    async def main() -> UpstreamFailed:
        with pytest.raises(UpstreamFailed) as caught:
            await connect([("127.0.0.1", closed_port()), ("127.0.0.2", closed_port("127.0.0.2"))], HOST, 2)
        return caught.value

    error = run(main)
    assert error.code == "port"
    assert "no connection (127.0.0.2: Connection refused)" in str(error)
    assert "security group" in str(error)
    assert "rdsiam doctor" in str(error)


def test_connections_are_kept_alive(authority, trusted, tmp_path):
    async def main() -> tuple[int, int]:
        async with serving(authority, tmp_path, HOST) as server:
            peer = await connect([("127.0.0.1", server.port)], HOST, 5)
            own = peer.transport.get_extra_info("socket")
            options = own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), own.getsockopt(socket.IPPROTO_TCP, 1)
            peer.close()
            return options

    assert run(main) == (1, 1)  # and TCP_NODELAY


class Resolver:
    """Stands in for the system's resolver."""

    def __init__(self, monkeypatch, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.release = threading.Event()
        self.release.set()
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        self.release.wait(5)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answer]


def resolving(main: Callable[[Names], Coroutine[Any, Any, Any]]) -> Any:
    async def made() -> Any:
        return await main(Names(executor))

    with ThreadPoolExecutor(1) as executor:
        return run(made)


def test_each_look_up_is_new_so_that_a_failover_is_seen(monkeypatch):
    Resolver(monkeypatch, ["10.0.0.1"], ["10.0.0.2", "10.0.0.2", "10.0.0.3"])

    async def main(names: Names) -> list[object]:
        return [await names.addresses(HOST, 5432, 1), await names.addresses(HOST, 5432, 1)]

    assert resolving(main) == [[("10.0.0.1", 5432)], [("10.0.0.2", 5432), ("10.0.0.3", 5432)]]


def test_a_resolver_that_hangs_fails_every_connection_in_time_and_is_asked_once(monkeypatch):
    resolver = Resolver(monkeypatch, ["10.0.0.1"])
    resolver.release.clear()

    async def main(names: Names) -> tuple[Any, Any]:
        failures = await asyncio.gather(*(names.addresses(HOST, 5432, 0.1) for _ in range(100)), return_exceptions=True)
        resolver.release.set()
        return failures, await names.addresses(HOST, 5432, 2)

    failures, after = resolving(main)
    assert {getattr(failure, "code", None) for failure in failures} == {"name"}
    assert resolver.asked == [HOST]
    assert after == [("10.0.0.1", 5432)]


@pytest.mark.parametrize(
    "error",
    [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), socket.gaierror(socket.EAI_AGAIN, "Try again"),
     OSError(24, "Too many open files"), UnicodeError("label too long"), ValueError("embedded null character")],
    ids=str,
)  # fmt: skip
def test_a_name_that_does_not_resolve_is_an_error_in_doctors_words(monkeypatch, error):
    Resolver(monkeypatch, error)

    async def main(names: Names) -> UpstreamFailed:
        with pytest.raises(UpstreamFailed) as caught:
            await names.addresses(HOST, 5432, 1)
        return caught.value

    failure = resolving(main)
    assert isinstance(failure, UpstreamFailed)
    assert failure.code == "name"
    assert HOST in str(failure)


def test_a_name_without_addresses_is_an_error(monkeypatch):
    Resolver(monkeypatch, [])

    async def main(names: Names) -> str:
        with pytest.raises(UpstreamFailed) as caught:
            await connect(await names.addresses(HOST, 5432, 1), HOST, 1)
        return caught.value.code

    assert resolving(main) == "port"

"""Lines to paste into clients: connection strings and command lines, for each listener."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from rdsiam.core import shell
from rdsiam.proxy.contracts import EngineName, Listener

__all__ = ["Lines", "lines"]

#: Database that every PostgreSQL server of RDS has.
_DATABASE = "postgres"


@dataclass(frozen=True)
class Lines:
    """Ways to name a listener to a client; none has a secret.

    :ivar url: empty if the engine's clients have none for it.
    :ivar jdbc: likewise; JDBC has no unix sockets.
    """

    url: str
    jdbc: str
    command: str

    @property
    def all(self) -> Sequence[str]:
        """The lines that are not empty."""
        return [line for line in (self.url, self.jdbc, self.command) if line]


def lines(listener: Listener, engine: EngineName, user: str | None, name: str | None, tls: bool) -> Lines:
    """Return the lines for a listener.

    :param user: None: the line has USER in its place.
    :param name: database or schema to open.
    :param tls: clients have to use TLS.
    """
    user = user or "USER"
    if engine == "postgres":
        return _postgres(listener, user, name or _DATABASE, tls)
    return _mysql(listener, user, name or "", tls)


def _host(listener: Listener) -> str:
    """Return the host that clients use; `localhost` is a unix socket for MySQL's."""
    host = {"localhost": "127.0.0.1", "0.0.0.0": "HOST", "::": "HOST"}.get(listener.host, listener.host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _postgres(listener: Listener, user: str, name: str, tls: bool) -> Lines:
    user, name = quote(user, safe=""), quote(name, safe="")
    if listener.socket is not None:
        folder = quote(str(listener.socket.parent), safe="")
        port = listener.socket.name.rpartition(".")[2]
        url = f"postgresql://{user}@{folder}:{port}/{name}"
        return Lines(url, "", shell.join(["psql", url]))
    place = f"{_host(listener)}:{listener.port}/{name}"
    url = f"postgresql://{user}@{place}{'?sslmode=require' if tls else ''}"
    jdbc = f"jdbc:postgresql://{place}?user={user}{'&sslmode=require' if tls else ''}"
    return Lines(url, jdbc, shell.join(["psql", url]))


def _mysql(listener: Listener, user: str, name: str, tls: bool) -> Lines:
    words = [f"--user={user}", *([name] if name else [])]
    user, name = quote(user, safe=""), quote(name, safe="")
    if listener.socket is not None:
        return Lines("", "", shell.join(["mysql", f"--socket={listener.socket}", *words]))
    host = _host(listener)
    place = f"{host}:{listener.port}/{name}"
    command = ["mysql", "--protocol=tcp", f"--host={host.strip('[]')}", f"--port={listener.port}", *words]
    jdbc = f"jdbc:mysql://{place}?user={user}{'&sslMode=REQUIRED' if tls else ''}"
    return Lines(f"mysql://{user}@{place}", jdbc, shell.join(command))

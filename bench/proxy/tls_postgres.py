"""A PostgreSQL server with its own TLS, as RDS has it; localcloud's servers of PostgreSQL have a front instead."""

import os
import subprocess
from pathlib import Path

from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers import postgres_programs
from localcloud.databases.servers.server import open_to_nobody, run_as_nobody, wait_until

#: The newest version whose programs, fetched by localcloud, have TLS built in.
VERSION = 17
DATABASE, USER = "shop", "app_service"
#: A token's length; the server compares it as a password, since only localcloud's front judges tokens.
PASSWORD = "not-a-real-token&" * 64
_SETTINGS = (
    "ssl=on",
    "listen_addresses=localhost",
    "max_connections=1100",
    "shared_buffers=128MB",
    "dynamic_shared_memory_type=mmap",
    "password_encryption=md5",  # a token isn't hashed 4,096 times either
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_wal_size=4GB",
    "autovacuum=off",
)
_RULES = f"local all all trust\nhostssl all {USER} all password\n"


class TlsPostgres:
    """A server at a port of its own; its user logs in over TLS with `PASSWORD`, asked for in clear text as on RDS.

    :param root: a directory for its files, made if missing.
    """

    def __init__(self, root: Path, authority: Authority) -> None:
        self.port = processes.free_port()
        self.authority = authority
        self._root = root
        self._data = root / "data"
        self._process: processes.Process | None = None

    def start(self) -> None:
        """Make the data and start the server. Blocks until it answers."""
        if postgres_programs.obtainable(VERSION) != VERSION:
            raise RuntimeError(f"PostgreSQL {VERSION} can't be fetched, and the newer one has no TLS")
        open_to_nobody(self._root)
        processes.give_to_nobody(self._root)
        programs = postgres_programs.programs(self._root, VERSION)
        log = self._root / "server.log"
        log.touch()
        run_as_nobody(
            [programs / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            log=log,
            env={"PATH": os.defpath},
        )
        certificate = self.authority.issue(self._root / "certificate")
        (self._data / "pg_hba.conf").write_text(_RULES)
        processes.give_to_nobody(certificate.key.parent)
        settings = [
            *_SETTINGS,
            f"port={self.port}",
            f"unix_socket_directories={self._root}",
            f"ssl_cert_file={certificate.certificate}",
            f"ssl_key_file={certificate.key}",
        ]
        self._process = processes.spawn(
            [programs / "postgres", "-D", self._data, *(word for setting in settings for word in ("-c", setting))],
            log=log,
            env={"PATH": os.defpath},
            as_nobody=True,
        )
        wait_until(lambda: "ready to accept connections" in log.read_text(), self._process, log)
        self.administer(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'", "postgres")
        self.administer(f"CREATE DATABASE {DATABASE} OWNER {USER}", "postgres")

    def administer(self, statement: str, database: str = DATABASE) -> str:
        """Run a statement as superuser, over the unix socket."""
        command = ["psql", "-X", "-At", "-h", str(self._root), "-p", str(self.port), "-U", "postgres", "-d", database]
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, check=True, timeout=600)
        return done.stdout.strip()

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            processes.stop(self._process)

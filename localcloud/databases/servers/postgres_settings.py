"""Settings and login rules of a PostgreSQL server, by version, as RDS has them."""

from __future__ import annotations

from collections.abc import Mapping

RDSADMIN = "rdsadmin"
_SETTINGS: Mapping[str, object] = {
    "listen_addresses": "",
    "max_connections": 120,
    # As on RDS: 3 for superusers, 2 for rds_superuser (up to 15 by rds.rds_superuser_reserved_connections).
    "superuser_reserved_connections": 3,
    "reserved_connections": 2,
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # files among the data: a killed server leaves nothing in /dev/shm
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "replica",
    "wal_keep_size": "32MB",  # limit of a stopped replica's lag
    "wal_retrieve_retry_interval": "200ms",  # until a replica follows another source
    "max_wal_size": "32MB",
    "min_wal_size": "4MB",
    "wal_init_zero": "off",  # a new file of the log takes up no space before it is written
    "wal_recycle": "off",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # a failing statement may hold a password
    "max_worker_processes": 4,
    "io_method": "sync",  # no processes of their own for reading
    "autovacuum_naptime": "5min",
}
#: Settings that older versions don't know, with the first version that does.
_SINCE = {"reserved_connections": 16, "io_method": 18}
#: Parameters of replication connections, which are off in RDS's parameter groups of every version.
REPLICATION = {"rds.logical_replication": "0", "rds.iam_auth_for_replication": "0"}
_HASHES = ("md5", "scram-sha-256")
#: The first version whose default parameter group forces TLS, and the first whose passwords are SCRAM's by default.
_FORCES_SSL_FROM, _SCRAM_FROM = 15, 14


def default_parameters(version: int) -> dict[str, str]:
    """Return the parameters of RDS's parameter groups that reach the server, with a version's defaults."""
    return {
        "rds.force_ssl": "1" if version >= _FORCES_SSL_FROM else "0",
        "password_encryption": "scram-sha-256" if version >= _SCRAM_FROM else "md5",
    }


def accepted(values: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that reach the server, without values that RDS refuses."""
    known = {name: value for name, value in values.items() if name in default_parameters(0) | REPLICATION}
    if known.get("password_encryption", _HASHES[0]) not in _HASHES:
        del known["password_encryption"]
    return known


def configuration(version: int, more: Mapping[str, object]) -> str:
    """Return the text of postgresql.auto.conf: the settings that every server has, and more."""
    settings = {name: value for name, value in _SETTINGS.items() if _SINCE.get(name, 0) <= version} | dict(more)
    if settings.get("rds.logical_replication") == "1":
        settings["wal_level"] = "logical"
    return "".join(f"{name} = {_quoted(str(value))}\n" for name, value in settings.items())


def login_rules(master: str, *, iam: bool, master_first: bool) -> str:
    """Return the text of pg_hba.conf.

    :param master_first: let the master log in by password even if it is a member of `rds_iam`.
    """
    # "md5" takes both kinds of stored passwords, MD5 and SCRAM, as RDS's rule does.
    master_rule = [f'local all "{master.replace('"', '""')}" md5'] if master_first else []
    rules = [
        f"local all {RDSADMIN} scram-sha-256",
        "local rdsadmin all reject",
        f"local replication {RDSADMIN} scram-sha-256",  # for replicas and copies; the front refuses clients
        "local replication all reject",
        *master_rule,
        # The front asks users of this rule for a token; no other process can enter the socket's directory.
        *(["local all +rds_iam trust"] if iam else []),
        "local all all md5",
    ]
    return "\n".join(rules) + "\n"


def _quoted(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise ValueError("a setting of PostgreSQL has one line")
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"

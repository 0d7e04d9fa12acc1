"""The audit's reading of a MySQL or MariaDB server: one call of the procedure in `audit_procedure`."""

import re
from collections.abc import Sequence
from typing import Any

import pymysql

from rdsiam.engines.facts import ServerFacts
from rdsiam.engines.mysql.audit_accounts import Key, ServerState, accounts
from rdsiam.engines.mysql.audit_procedure import PROCEDURE, SCHEMA
from rdsiam.engines.mysql.catalog import SYSTEM_SCHEMAS, server_version
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.schema_names import SchemaNames
from rdsiam.engines.statements import QueryFailed
from rdsiam.state.layout import Layout

#: Number of results that the procedure returns; an empty result ends them.
_RESULTS = 8
#: A role in `mandatory_roles`: name and host pattern, each quoted or plain.
_ROLE = re.compile(r"\s*(`(?:[^`]|``)*`|'(?:[^']|'')*'|[^@,]*)(?:@(`[^`]*`|'[^']*'|[^,]*))?\s*(?:,|$)")


def audit(session: MysqlSession) -> ServerFacts:
    """Read how every account can log in; see `Engine.audit`."""
    results: list[Sequence[tuple[Any, ...]]] = []
    try:
        with session.cursor() as cursor:
            cursor.execute(f"CALL `{SCHEMA}`.`{PROCEDURE}`()")
            results.append(cursor.fetchall())
            while cursor.nextset():
                results.append(cursor.fetchall())
    except pymysql.MySQLError as error:
        code = str(error.args[0]) if error.args else None
        raise QueryFailed(code, str(error.args[-1]) if error.args else type(error).__name__) from None
    if len(results) < _RESULTS:
        raise QueryFailed(None, f"{SCHEMA}.{PROCEDURE} is not rdsiam's procedure; onboard the database again")
    server, methods, granted, roles, schemas, sessions, owned, properties = results[:_RESULTS]
    secure, now, lower_case, literal, mandatory = server[0]
    names = SchemaNames(bool(int(literal)), bool(lower_case))
    databases = tuple(sorted(row[0] for row in schemas if row[0].lower() not in SYSTEM_SCHEMAS))
    return ServerFacts(
        # MariaDB greets with a prefix, so that old clients of MySQL accept it.
        version=server_version(session).removeprefix("5.5.5-"),
        tls_enforced=bool(secure),
        databases=databases,
        layout=Layout.of_schemas(databases),
        accounts=accounts(
            methods,
            granted,
            roles,
            ServerState(now, dict(sessions), dict(owned), properties, names, mandatory_roles(mandatory)),
        ),
    )


def mandatory_roles(text: str) -> frozenset[Key]:
    """Parse `mandatory_roles`: roles that every account of the server has, each as `role` or `role@host`."""
    roles = set()
    for name, host in _ROLE.findall(text):
        if name.strip():
            roles.add((_unquoted(name), _unquoted(host) or "%"))
    return frozenset(roles)


def _unquoted(text: str) -> str:
    text = text.strip()
    quote = text[:1] if text[:1] in {"`", "'"} else ""
    return text[1:-1].replace(quote * 2, quote) if quote else text

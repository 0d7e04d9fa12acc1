"""The API's list of databases that the caller may log in to: finds the one that is named, and its endpoint."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rdsiam.command.errors import Denied, NotFound, Usage
from rdsiam.command.output import visible
from rdsiam.core.arn import Arn, lower_identifier
from rdsiam.core.similar import did_you_mean
from rdsiam.errors import NoSuchEndpoint
from rdsiam.tokens.database_endpoints import DatabaseEndpoints, DatabaseKind, Endpoint

LIST_ENDPOINTS = "rdsiam ls --endpoints shows the endpoints that you may log in to"
#: Part of an ARN → the kind of database; an instance has `db`.
_KINDS: Mapping[str, DatabaseKind] = {"cluster": "cluster", "db-proxy": "proxy"}


@dataclass(frozen=True)
class Listed:
    """A database in the API's list, and the endpoint of it that was named.

    :ivar endpoint: None for the writer's.
    """

    database: Mapping[str, Any]
    endpoint: str | None = None

    @property
    def arn(self) -> str:
        """The ARN of the database."""
        return str(self.database["arn"])

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the endpoint.

        :raises NoSuchEndpoint: the list has none of that name.
        """
        identifier = visible(str(self.database.get("identifier")))
        if self.endpoint is not None:
            return self._chosen(identifier, self.endpoint)
        host, port = self.database.get("host"), self.database.get("port")
        if not isinstance(host, str) or type(port) is not int:
            raise NoSuchEndpoint(f"{identifier} has no endpoint yet", "wait until it is available")
        return host, port

    def _chosen(self, identifier: str, name: str) -> tuple[str, int]:
        kind: DatabaseKind = next((kind for part, kind in _KINDS.items() if f":{part}:" in self.arn), "instance")
        listed = [
            Endpoint(visible(each["name"]), each["kind"], each["host"], each["port"])
            for each in self.database.get("endpoints") or []
        ]
        try:
            chosen = DatabaseEndpoints(kind, identifier, tuple(listed)).choose(name)
        except NoSuchEndpoint as error:
            raise NoSuchEndpoint(f"{identifier}: {error.problem}; {error.remedy}", LIST_ENDPOINTS) from None
        return chosen.host, chosen.port


def find(databases: Sequence[Mapping[str, Any]], name: str) -> Listed | None:
    """Return the database of that identifier or ARN; or the one that has that host or member of a cluster.

    :param name: upper and lower case are the same: RDS keeps identifiers in lower case.
    :raises Usage: several databases have that identifier.
    """
    with suppress(NotFound):
        return Listed(choose(databases, name))
    wanted = name.lower()
    for database in databases:
        if wanted == str(database.get("host")).lower():
            return Listed(database)
    for database in databases:
        for endpoint in database.get("endpoints") or []:
            if wanted in _names_of(endpoint, str(database["arn"])):
                return Listed(database, endpoint["host"])  # a name may be another endpoint's too, a host name never
    return None


def _names_of(endpoint: Mapping[str, Any], arn: str) -> set[str]:
    """Return the names in place of a database that lead to an endpoint: its host; of a member also identifier and ARN.

    :param arn: of the database that has the endpoint.
    """
    names = {endpoint["host"].lower()}
    if endpoint["kind"] == "instance":
        names.add(endpoint["name"].lower())
        with suppress(ValueError):
            names.add(Arn.parse(arn).beside(f"db:{endpoint['name']}").lower())
    return names


def choose(databases: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the database of that identifier or ARN.

    :raises NotFound: no database has that name; similar names are suggested.
    :raises Usage: several databases have that name.
    """
    matching = [
        database
        for database in databases
        if lower_identifier(name) in (database.get("arn"), str(database.get("identifier")).lower())
    ]
    if len(matching) > 1:
        arns = ", ".join(sorted(str(database["arn"]) for database in matching))
        raise Usage(f"{name} is ambiguous", f"name the database by its ARN: {arns}")
    if not matching:
        similar = did_you_mean(name, [str(database.get("identifier")) for database in databases], 3)
        remedy = similar or "rdsiam ls shows what you may log in to"
        raise NotFound(f"you may not log in to {name}, or it does not exist", remedy)
    return matching[0]


def only_user(database: Mapping[str, Any]) -> str:
    """Return the only user that the caller may be.

    :raises Usage: the caller may be several users; the message lists them.
    """
    users = sorted(str(user) for user in database.get("users") or [])
    identifier = database.get("identifier")
    if not users:
        raise Denied(f"you may be no user on {identifier}", "ask for an entry in access.yaml")
    if len(users) > 1:
        raise Usage(f"you may be several users on {identifier}", f"give --user: {', '.join(map(visible, users))}")
    return users[0]

"""Migrations from passwords to tokens: their state in InventoryTable, written by one execution at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Literal, get_args

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from rdsiam.core.times import moment, text
from rdsiam.errors import RdsiamError

#: In this order. `paired`: the successor exists; `proven`: it has logged in with a token; `watching`: rdsiam waits for
#: a period without a login of the user; `retired`: the user can't log in.
MigrationState = Literal["paired", "proven", "watching", "retired"]
STATES: tuple[MigrationState, ...] = get_args(MigrationState)


class Superseded(RdsiamError):
    """Another execution has taken over this migration, so this one changes nothing further."""

    code = "superseded"


@dataclass(frozen=True)
class QuietPeriod:
    """The period in which nobody may log in as the user. Times are RFC 3339.

    :ivar seconds: required length of the period.
    :ivar quiet_since: time of the last login, or of the last gap between observations; the period begins there.
    :ivar observations: number of observations.
    :ivar last_observation: time of the last observation; None before the first.
    :ivar last_seen: time at which a session of the user was last seen; None if there was none.
    :ivar clients: those sessions: application, address, since, sessions.
    :ivar statements: number of the user's statements that the server counts; None if it doesn't count them.
    :ivar held: why the user is not retired though the period is over; empty if nothing holds it.
    """

    seconds: int
    quiet_since: str
    observations: int = 0
    last_observation: str | None = None
    last_seen: str | None = None
    clients: tuple[Mapping[str, Any], ...] = ()
    statements: int | None = None
    held: str = ""


@dataclass(frozen=True)
class RetainedSecret:
    """The secret of a retired user, as it was before.

    :ivar rotated: it rotated, and rotates again once it is restored.
    """

    arn: str
    rotated: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Migration:
    """The migration of one user of one database.

    :ivar successor: user that replaces it; the user itself if it is changed in place.
    :ivar resource_id: resource id of the database; another database may have the same name later.
    :ivar history: states that were reached, each with `state`, `at` and `done`, the changes made for it.
    :ivar locked: host patterns of its accounts that could not log in before; None before it is retired.
    :ivar execution: execution that works on it; empty if none does.
    :ivar lease: end of the lease in seconds since 1970; after it another execution may take over.
    :ivar revision: number of writes.
    """

    user: str
    successor: str
    resource_id: str
    state: MigrationState | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    watch: QuietPeriod | None = None
    locked: tuple[str, ...] | None = None
    secret: RetainedSecret | None = None
    execution: str = ""
    lease: int = 0
    revision: int = 0

    @property
    def in_place(self) -> bool:
        """Whether the user itself moves to tokens, without a successor."""
        return self.successor == self.user

    def reached(self, state: MigrationState) -> bool:
        """Tell whether the migration has reached the state."""
        return self.state is not None and STATES.index(self.state) >= STATES.index(state)

    def at(self, state: MigrationState, when: str, done: list[str]) -> "Migration":
        """Return the migration in that state.

        :param done: changes made for it, one a line.
        """
        entry = {"state": state, "at": when, "done": [line[:_LINE] for line in done[:_LINES]]}
        return replace(self, state=state, history=(*self.history, entry)[-_STEPS:])

    @property
    def until(self) -> str | None:
        """Time at which the user is retired if nobody logs in until then; None unless it is watched."""
        if self.watch is None or self.state != "watching":
            return None
        return text(moment(self.watch.quiet_since) + timedelta(seconds=self.watch.seconds))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, as answers and reports show it."""
        shown = asdict(self) | {"until": self.until}
        for name in ("execution", "lease", "revision", "resource_id"):
            del shown[name]
        return shown


#: Limits of the history, as an item of DynamoDB holds 400 KB at most; the log has every statement.
_LINES, _LINE, _STEPS = 40, 300, 20


def counts(states: Iterable[Any]) -> dict[str, int]:
    """Return the number of migrations in each state."""
    listed = list(states)
    return {state: listed.count(state) for state in STATES}


class Migrations:
    """The attribute `migrations` of InventoryTable's items: user → its migration."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def of(self, arn: str) -> dict[str, Migration]:
        """Return the migrations of a database, by user."""
        item = self._dynamodb.get_item(TableName=self._table, Key={"database": {"S": arn}}, ConsistentRead=True)
        return migrations_of(item.get("Item", {}))

    def all(self) -> Iterator[tuple[str, dict[str, Migration]]]:
        """Yield the ARN and the migrations of every database that has some, page by page."""
        for page in self._dynamodb.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True):
            for item in page["Items"]:
                if migrations := migrations_of(item):
                    yield item["database"]["S"], migrations

    def save(self, arn: str, migration: Migration) -> Migration:
        """Write a migration, unless another execution has written it since it was read; return it as it was written.

        :raises Superseded: another execution has.
        """
        written = replace(migration, revision=migration.revision + 1)
        value = {key: each for key, each in asdict(written).items() if key != "user"}
        self._update(arn, "SET #m = if_not_exists(#m, :none)", {":none": {}})
        self._change(arn, migration, "SET #m.#u = :value", {":value": value})
        return written

    def forget(self, arn: str, migration: Migration) -> None:
        """Remove a migration.

        :raises Superseded: another execution has written it since it was read.
        """
        self._change(arn, migration, "REMOVE #m.#u", {})

    def _change(self, arn: str, before: Migration, expression: str, values: Mapping[str, Any]) -> None:
        condition = "#m.#u.#r = :revision" if before.revision else "attribute_not_exists(#m.#u)"
        names = {"#u": before.user} | ({"#r": "revision"} if before.revision else {})
        given = {**values, **({":revision": before.revision} if before.revision else {})}
        try:
            self._update(arn, expression, given, names, ConditionExpression=condition)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise Superseded(f"another execution has changed the migration of {before.user} on {arn}") from None

    def _update(
        self, arn: str, expression: str, values: Mapping[str, Any], names: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        write = TypeSerializer()
        given = {key: write.serialize(_plain(value)) for key, value in values.items()}
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"database": {"S": arn}},
            UpdateExpression=expression,
            ExpressionAttributeNames={"#m": "migrations", **(names or {})},
            **({"ExpressionAttributeValues": given} if given else {}),
            **more,
        )


def migrations_of(item: Mapping[str, Any]) -> dict[str, Migration]:
    """Return the migrations that an item of the table holds, by user."""
    if "migrations" not in item:
        return {}
    whole = _whole(TypeDeserializer().deserialize(item["migrations"]))
    return {user: _migration(user, fields) for user, fields in sorted(whole.items())}


def _migration(user: str, fields: Mapping[str, Any]) -> Migration:
    watch, secret, locked = fields["watch"], fields["secret"], fields["locked"]
    return Migration(
        **{
            **fields,
            "user": user,
            "history": tuple(fields["history"]),
            "watch": QuietPeriod(**{**watch, "clients": tuple(watch["clients"])}) if watch else None,
            "secret": RetainedSecret(**secret) if secret else None,
            "locked": None if locked is None else tuple(locked),
        }
    )


def _plain(value: Any) -> Any:
    """Return lists for tuples, which DynamoDB's types don't know."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _whole(value: Any) -> Any:
    """Return ints for the decimals that DynamoDB returns."""
    if isinstance(value, Mapping):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return value if value is None or isinstance(value, str | bool) else int(value)

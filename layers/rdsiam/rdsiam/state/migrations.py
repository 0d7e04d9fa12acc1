"""States of migrations: kept beside the database in InventoryTable, written by one execution at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Literal, get_args

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from rdsiam.core.times import moment, text
from rdsiam.errors import RdsiamError

#: In their order. `paired`: the successor is there; `proven`: it logged in with a token; `watching`: the other one's
#: logins are looked for; `retired`: the old user can no longer log in.
State = Literal["paired", "proven", "watching", "retired"]
STATES: tuple[State, ...] = get_args(State)


class Superseded(RdsiamError):
    """Another execution has taken over this migration; this one changes nothing further."""

    code = "superseded"


@dataclass(frozen=True)
class Watch:
    """The observations of a watch. Times are RFC 3339.

    :ivar seconds: how long there must be no login.
    :ivar quiet_since: from when on there was none; until then plus `seconds` the watching lasts.
    :ivar looks: how often it looked.
    :ivar last_look: when it looked last.
    :ivar last_seen: when a session of the old user was seen last; None for never.
    :ivar seen: those sessions: application, address, since, sessions.
    :ivar logins: as the server counts them; None if it doesn't.
    :ivar held: why the watch continues after its time; empty if it doesn't.
    """

    seconds: int
    quiet_since: str
    looks: int = 0
    last_look: str | None = None
    last_seen: str | None = None
    seen: tuple[Mapping[str, Any], ...] = ()
    logins: int | None = None
    held: str = ""


@dataclass(frozen=True)
class RetainedSecret:
    """The secret of the old user, as it was.

    :ivar rotated: it was rotated, and is rotated again if it is restored.
    """

    arn: str
    rotated: bool


@dataclass(frozen=True)
class Migration:
    """The migration of one user of one database.

    :ivar successor: the user that takes its place; itself where it is changed in place.
    :ivar resource_id: of the database, which may be another one of the same name later.
    :ivar history: states that were reached, each with `state`, `at` and `done`, what was done for it.
    :ivar locked: host patterns of its accounts that could not log in before; None before it is retired.
    :ivar execution: who works on it; empty for nobody.
    :ivar lease: until when, in seconds since 1970; then another one may.
    :ivar revision: counts what was written.
    """

    user: str
    successor: str
    resource_id: str
    state: State | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    watch: Watch | None = None
    locked: tuple[str, ...] | None = None
    secret: RetainedSecret | None = None
    execution: str = ""
    lease: int = 0
    revision: int = 0

    @property
    def in_place(self) -> bool:
        """Whether the user itself changes how it logs in."""
        return self.successor == self.user

    def reached(self, state: State) -> bool:
        """Tell whether it has come that far."""
        return self.state is not None and STATES.index(self.state) >= STATES.index(state)

    def at(self, state: State, when: str, done: list[str]) -> "Migration":
        """Return the migration in that state, with a log line for each thing done."""
        entry = {"state": state, "at": when, "done": [line[:_LINE] for line in done[:_LINES]]}
        return replace(self, state=state, history=(*self.history, entry)[-_STEPS:])

    @property
    def until(self) -> str | None:
        """The end of the watch if nobody logs in until then; None if there is no watch."""
        if self.watch is None or self.state != "watching":
            return None
        return text(moment(self.watch.quiet_since) + timedelta(seconds=self.watch.seconds))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON, as answers and reports show it."""
        shown = asdict(self) | {"until": self.until}
        for name in ("execution", "lease", "revision", "resource_id"):
            del shown[name]
        return shown


#: A table's item holds 400 KB in all: the log has every statement.
_LINES, _LINE, _STEPS = 40, 300, 20


def counts(states: Iterable[Any]) -> dict[str, int]:
    """Return how many there are of each state."""
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
        return _migrations(item.get("Item", {}))

    def all(self) -> Iterator[tuple[str, dict[str, Migration]]]:
        """Yield the ARN and the migrations of every database that has some, page by page."""
        for page in self._dynamodb.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True):
            for item in page["Items"]:
                if found := _migrations(item):
                    yield item["database"]["S"], found

    def save(self, arn: str, migration: Migration) -> Migration:
        """Write it, if nobody wrote it since it was read, and return it as it is written.

        :raises Superseded: somebody did.
        """
        written = replace(migration, revision=migration.revision + 1)
        value = {key: each for key, each in asdict(written).items() if key != "user"}
        self._update(arn, "SET #m = if_not_exists(#m, :none)", {":none": {}})
        self._change(arn, migration, "SET #m.#u = :value", {":value": value})
        return written

    def forget(self, arn: str, migration: Migration) -> None:
        """Remove it.

        :raises Superseded: somebody wrote it since it was read.
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


def _migrations(item: Mapping[str, Any]) -> dict[str, Migration]:
    if "migrations" not in item:
        return {}
    found = _whole(TypeDeserializer().deserialize(item["migrations"]))
    return {user: _migration(user, fields) for user, fields in sorted(found.items())}


def _migration(user: str, fields: Mapping[str, Any]) -> Migration:
    watch, secret, locked = fields["watch"], fields["secret"], fields["locked"]
    return Migration(
        **{
            **fields,
            "user": user,
            "history": tuple(fields["history"]),
            "watch": Watch(**{**watch, "seen": tuple(watch["seen"])}) if watch else None,
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
    """Return ints for the decimals that DynamoDB gives."""
    if isinstance(value, Mapping):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return value if value is None or isinstance(value, str | bool) else int(value)

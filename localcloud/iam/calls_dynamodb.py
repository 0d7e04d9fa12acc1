"""Needs of DynamoDB's calls: their actions, judged with the table's own policy, and the table's key.

Sources: "Actions, resources, and condition keys for Amazon DynamoDB", Service Authorization Reference; "DynamoDB API
operations supported by resource-based policies" and "Encryption at rest", Amazon DynamoDB Developer Guide. Reading and
writing items of a table under a customer's key needs kms:Decrypt in the caller's name: aws/aws-cdk#10010 and #19531.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from moto.dynamodb.models import dynamodb_backends

from localcloud.core.web import Request
from localcloud.iam.actions import rules
from localcloud.iam.calls import Context, Need, Parameters, Place, UnknownCall, key_need, read_call
from localcloud.iam.judge import Policy

#: Makes the needs of one operation from its parameters.
_Rule = Callable[[Place, str, Parameters], Iterable[Need]]

_ITEMS = {
    "GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan", "BatchGetItem", "BatchWriteItem",
    "ConditionCheckItem", "PartiQLSelect", "PartiQLInsert", "PartiQLUpdate", "PartiQLDelete",
}  # fmt: skip
_TRANSACTIONS = {
    "Get": "GetItem", "Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}  # fmt: skip
_WRITING = {"PutItem", "UpdateItem", "DeleteItem"}
#: Words of expressions that are no names of attributes.
_WORDS = {
    "SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN", "IF_NOT_EXISTS", "LIST_APPEND", "SIZE",
    "ATTRIBUTE_EXISTS", "ATTRIBUTE_NOT_EXISTS", "ATTRIBUTE_TYPE", "BEGINS_WITH", "CONTAINS",
}  # fmt: skip
_PARTIQL = re.compile(
    r"""(?isx) \s*
    (?: (?P<Insert>INSERT\s+INTO) | (?P<Update>UPDATE) | (?P<Delete>DELETE\s+FROM)
      | (?P<Select>SELECT\b(?:(?!\bFROM\b).)+\bFROM) )
    \s+ "? (?P<table>[\w.-]+) "? (?: \. "? (?P<index>[\w.-]+) "? )? (?:\s.*)?"""
)


def dynamodb_needs(request: Request, place: Place) -> list[Need]:
    """Return the needs of a call of DynamoDB.

    :raises UnknownCall: it is not listed.
    """
    operation, parameters = read_call("dynamodb", request)
    rule = _RULES.get(operation)
    if rule is None:
        raise UnknownCall(f"dynamodb:{operation}")
    return list(rule(place, operation, parameters))


def _on_table(
    place: Place, action: str, table: str, index: str | None = None, context: Context | None = None
) -> Iterator[Need]:
    """Yield the needs of an action on a table: the action, which the table's policy may allow, and the table's key."""
    name = table.rpartition("/")[2] if table.startswith("arn:") else table
    arn = table if table.startswith("arn:") else place.arn("dynamodb", f"table/{table}")
    backend = dynamodb_backends[place.account][place.region]
    attached = backend.resource_policies.get(arn)
    policy = None if attached is None else Policy(name, attached.policy_doc)
    yield Need(f"dynamodb:{action}", f"{arn}/index/{index}" if index else arn, context or {}, policy)
    stored_table = backend.tables.get(name)
    key = ((stored_table.sse_specification or {}) if stored_table else {}).get("KMSMasterKeyId")
    if key and action in _ITEMS:
        yield key_need(place, "kms:Decrypt", str(key), _via(place, name))


def _attributes(parameters: Parameters) -> Context:
    """Return the condition key that lists the top-level attributes of a request that writes an item."""
    names: Mapping[str, str] = parameters.get("ExpressionAttributeNames") or {}
    attributes = {*(parameters.get("Item") or {}), *(parameters.get("Key") or {})}
    for part in ("UpdateExpression", "ConditionExpression"):
        # A name that follows a dot is inside of another one, and one after a colon is a value.
        for word in re.findall(r"(?<![\w#:.])#?\w+", str(parameters.get(part) or "")):
            if word.startswith("#"):
                attributes.add(names.get(word, word))
            elif word.upper() not in _WORDS and not word.isdigit():
                attributes.add(word)
    return {"dynamodb:Attributes": sorted(attributes)}


def _leading_key(parameters: Parameters) -> Context:
    """Return the condition key that has the key of the item that a request reads; nothing for another request.

    Tables with a sort key are not modelled.
    """
    key = parameters.get("Key") or {}
    return (
        {"dynamodb:LeadingKeys": [str(value) for value in next(iter(key.values())).values()]} if len(key) == 1 else {}
    )


def _via(place: Place, table: str) -> Context:
    return {
        "kms:ViaService": f"dynamodb.{place.region}.amazonaws.com",
        "kms:CallerAccount": place.account,
        "kms:EncryptionContext:aws:dynamodb:tableName": table,
        "kms:EncryptionContext:aws:dynamodb:subscriberId": place.account,
    }


def _all_resources(_: Place, operation: str, __: Parameters) -> Iterator[Need]:
    yield Need(f"dynamodb:{operation}", "*")


def _named(parameter: str) -> _Rule:
    """Need the action on the table that a parameter names, by its name or ARN."""

    def rule(place: Place, operation: str, parameters: Parameters) -> Iterator[Need]:
        index = parameters.get("IndexName")
        context = _attributes(parameters) if operation in _WRITING else _leading_key(parameters)
        yield from _on_table(
            place, operation, str(parameters[parameter]), None if index is None else str(index), context
        )

    return rule


def _encrypted(place: Place, operation: str, parameters: Parameters) -> Iterator[Need]:
    """Need the use of the table's key too: DynamoDB takes a grant on it in the caller's name."""
    yield from _on_table(place, operation, str(parameters["TableName"]))
    key = (parameters.get("SSESpecification") or {}).get("KMSMasterKeyId")
    if key:
        for action in ("kms:DescribeKey", "kms:CreateGrant"):
            yield key_need(place, action, str(key), _via(place, str(parameters["TableName"])))


def _transaction(place: Place, _: str, parameters: Parameters) -> Iterator[Need]:
    for item in parameters.get("TransactItems", []):
        for kind, part in item.items():
            context = _attributes(part) if _TRANSACTIONS[kind] in _WRITING else {}
            yield from _on_table(place, _TRANSACTIONS[kind], str(part["TableName"]), context=context)


def _batch(place: Place, operation: str, parameters: Parameters) -> Iterator[Need]:
    for name in parameters.get("RequestItems", {}):
        yield from _on_table(place, operation, name)


def _statements(place: Place, operation: str, parameters: Parameters) -> Iterator[Need]:
    """Need the actions of PartiQL statements: a statement's verb is the action, and it names the table."""
    given = parameters.get("Statements") or parameters.get("TransactStatements") or [parameters]
    for each in given:
        match = _PARTIQL.fullmatch(str(each["Statement"]))
        if match is None:
            raise UnknownCall(f"dynamodb:{operation} of such a statement")
        verb = next(name for name in ("Insert", "Update", "Delete", "Select") if match[name])
        yield from _on_table(place, f"PartiQL{verb}", match["table"], match["index"])


_RULES: dict[str, _Rule] = rules(
    "dynamodb",
    {
        "all_resources": lambda: _all_resources,
        "table": _named,
        "table_and_key": lambda: _encrypted,
        "transaction": lambda: _transaction,
        "batch": lambda: _batch,
        "statements": lambda: _statements,
    },
)

"""The evaluator of the runbooks' filters is strict: a filter that it can't read is an error, not a match."""

import pytest

from tests import filter_patterns, insights

LINES = [
    {"level": "ERROR", "message": "no token: ClientError", "database": "arn:aws:rds:eu-1:1:db:orders-1", "user": "app"},
    {"level": "INFO", "message": "token vended", "database": "arn:aws:rds:eu-1:1:db:orders-11", "user": "app, app2"},
    {"level": "INFO", "message": "audit ended"},
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("fields @timestamp | sort @timestamp desc | limit 5", [0, 1, 2]),
        ('filter database like "orders-1"', [0, 1]),
        ("filter database like /:orders-1$/", [0]),
        ('filter user = "app"', [0]),
        ('filter user like "app"', [0, 1]),
        ('filter level = "ERROR" or message like /^audit/', [0, 2]),
        ('filter level = "INFO" and user like "app" | stats count(*) by user', [1]),
        ('filter level = "INFO" | filter message like "vended"', [1]),
        ('filter missing = "x"', []),
        ("filter message like /vended|ended/ | limit 5", [1, 2]),
        ('filter message like "a|b"', []),
    ],
)
def test_queries(query, found):
    assert insights.found(query, LINES) == [LINES[index] for index in found]


@pytest.mark.parametrize(
    "query",
    ["parse message", "filter level", 'filter level == "ERROR"', "filter level = ERROR", 'filter level = "a" b'],
)
def test_queries_that_are_not_read_are_refused(query):
    with pytest.raises(insights.UnknownQuery):
        insights.found(query, LINES)


def test_names_of_a_query():
    query = (
        'fields @timestamp, message, route | filter status = "429" | stats count(*) by caller | sort by count(*) desc'
    )
    assert insights.names(query) == {"message", "route", "status", "caller"}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ('{ $.level = "ERROR" }', [0]),
        ('{ $.database = "*:orders-1" }', [0]),
        ('{ $.database = "*:orders-1*" && $.level = "INFO" }', [1]),
        ('{ $.missing = "*" }', []),
    ],
)
def test_patterns(pattern, found):
    assert [line for line in LINES if filter_patterns.matches(pattern, line)] == [LINES[index] for index in found]


@pytest.mark.parametrize("pattern", ["level", "{ $.level = ERROR }", '{ $.level = "a" || $.level = "b" }'])
def test_patterns_that_are_not_read_are_refused(pattern):
    with pytest.raises(AssertionError):
        filter_patterns.matches(pattern, LINES[0])

"""Ctrl-C while passwords are rotated: the rotations that have begun go on and are named, and no further one begins."""

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.command import rotate_all, secrets_function
from rdsiam.command.errors import TryAgain
from rdsiam.command.output import Output
from rdsiam.command.secrets_function import SecretsFunction

PENDING = {"current_version": "old", "state": "rotating", "pending_since": "2026-11-27T08:00:00Z"}


def secret(name: str, database: str) -> dict[str, Any]:
    return {
        "secret": f"arn:{name}",
        "name": name,
        "user": name,
        "database": f"arn:{database}",
        "identifier": database,
        "problem": "",
        "former_stays": False,
        "pending_since": None,
        "available": True,
    }


@pytest.fixture
def function(monkeypatch):
    """Return SecretsFunction with a stand-in for the function, which records the rotations that began."""
    installation = SimpleNamespace(
        settings=SimpleNamespace(get=lambda _: SimpleNamespace(value="f")),
        aws=SimpleNamespace(client=lambda *_, **__: None),
    )
    monkeypatch.setattr(secrets_function, "_PAUSE", 0.01)
    function = SecretsFunction(installation)  # type: ignore[arg-type]
    begun: list[str] = []

    def ask(payload: Mapping[str, Any]) -> dict[str, Any]:
        if "list" in payload:
            return {"secrets": [secret("a", "one"), secret("b", "one"), secret("c", "two")], "skipped": 0}
        if "rotate" in payload:
            begun.append(payload["rotate"])
            return {"version": "new"}
        return PENDING

    monkeypatch.setattr(function, "ask", ask)
    return SimpleNamespace(function=function, begun=begun)


def test_an_interrupt_names_the_rotation_that_goes_on(function, monkeypatch, capsys):
    def interrupt(_: object, __: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Event, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        function.function.rotate("arn:a", None, 60, lambda _: None)
    assert "the rotation of arn:a to version new goes on: rdsiam rotate status shows it" in capsys.readouterr().err


def test_no_rotation_begins_after_an_interrupt(function):
    function.function.stop_waiting()
    with pytest.raises(TryAgain, match="not begun"):
        function.function.rotate("arn:a", None, 60, lambda _: None)
    assert function.begun == []


@pytest.mark.parametrize("at_once", [1, 8])
def test_an_interrupted_set_ends_soon_and_begins_nothing_more(function, monkeypatch, capsys, at_once):
    def interrupt(_: object) -> Any:
        while not function.begun:
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(rotate_all, "as_completed", interrupt)
    choice = rotate_all.Choice("leak", (), (), at_once, 60)
    with pytest.raises(KeyboardInterrupt):
        rotate_all.run(function.function, choice, [], False, Output("table"))
    assert "interrupted: no further rotation begins" in capsys.readouterr().err
    assert "arn:b" not in function.begun, "it follows a in its database"
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]

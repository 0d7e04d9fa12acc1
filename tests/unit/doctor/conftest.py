"""A server that the doctor logs in to."""

import socket
from typing import Any

import pytest

from rdsiam.doctor.case import LoginCase
from rdsiam.engines.logins import AUDITOR
from tests.unit.doctor.cases import (
    failed_login,
)


class Session:
    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def no_names_under_invalid(monkeypatch):
    """Let these names not resolve at once: a name server may take seconds for it."""
    resolve = socket.getaddrinfo

    def known(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", known)


@pytest.fixture
def server(monkeypatch):
    """Let every login work, unless a test sets an error."""
    answer: dict[str, Any] = {"error": None, "tokens": []}

    def connect(case: LoginCase, login: Any) -> Session:
        answer["tokens"].append(login.secret)
        if login.user == AUDITOR and case.user != AUDITOR:
            raise failed_login("PAM authentication failed")
        if answer["error"] is not None:
            raise answer["error"]
        return Session()

    monkeypatch.setattr(LoginCase, "_connect", connect)
    return answer

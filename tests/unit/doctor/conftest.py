"""A server that the doctor logs in to."""

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

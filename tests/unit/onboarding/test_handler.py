"""The handler of OnboardFunction publishes whether access.yaml waits for confirmation, which is an alarm."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rdsiam.errors import AccessFileUnavailable, NeedsConfirmation
from rdsiam.events.onboard import ReconcileRequest
from rdsiam.onboarding.reconcile import Reconciled

APP = Path(__file__).parents[3] / "functions" / "onboard" / "app.py"


@pytest.fixture(scope="module")
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onboard_app", APP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("outcome", "plan", "measured"),
    [
        (Reconciled((), 1), False, [0]),
        (Reconciled((), 1), True, []),
        (NeedsConfirmation("version v2 of access.yaml waits"), False, [1]),
        (AccessFileUnavailable("S3 is silent"), False, []),
    ],
    ids=["applied", "planned", "waits", "unknown"],
)
def test_a_reconcile_publishes_whether_a_version_waits(app, monkeypatch, outcome, plan, measured):
    found: list[tuple[str, int]] = []

    def reconcile(*_: Any) -> Reconciled:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(app, "reconcile", reconcile)
    monkeypatch.setattr(app, "_services", lambda: None)
    monkeypatch.setattr(app.metrics, "add_metric", lambda *given: found.append((given[0], given[2])))
    monkeypatch.setattr(app.metrics, "flush_metrics", lambda: None)
    context: Any = None
    request = ReconcileRequest(plan, False)
    if isinstance(outcome, Exception):
        with pytest.raises(type(outcome)):
            app._reconcile(context, request)
    else:
        assert app._reconcile(context, request) is outcome
    assert found == [("AccessFileWaits", value) for value in measured]

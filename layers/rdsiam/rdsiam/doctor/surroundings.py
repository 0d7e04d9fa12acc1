"""Checks of proxies in front of the database and of throttled logins."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rdsiam.aws.rds_descriptions import is_classic
from rdsiam.core import shell
from rdsiam.core.counts import agreed, counted
from rdsiam.doctor.case import LoginCase, Verdict, fail, ok, unknown


def proxy(case: LoginCase) -> Verdict:
    """Look for proxies that log in by password; of a proxy check what is behind it."""
    rds = case.client("rds")
    if case.database.kind == "proxy":
        return _behind(case, _targets(rds, case.name))
    names = {case.name, case.owner}
    proxies = []
    for description in _pages(rds.describe_db_proxies, "DBProxies"):
        if not is_classic(description):
            continue
        targets = _targets(rds, str(description["DBProxyName"]))
        if any(names & {target.get("RdsResourceId"), target.get("TrackedClusterId")} for target in targets):
            proxies.append(str(description["DBProxyName"]))
    if proxies:
        return ok(f"behind {', '.join(proxies)}, which logs in by password: users of it can't be IAM users here")
    return ok("no proxy that logs in by password is in front of the database")


def _pages(call: Callable[..., Any], key: str, **query: str) -> Iterator[Mapping[str, Any]]:
    """Yield the elements of all pages of an answer."""
    marker: dict[str, str] = {}
    while True:
        answer = call(**query, **marker)
        yield from answer[key]
        if not answer.get("Marker"):
            return
        marker = {"Marker": answer["Marker"]}


def _targets(rds: Any, name: str) -> Sequence[Mapping[str, Any]]:
    return [*_pages(rds.describe_db_proxy_targets, "Targets", DBProxyName=name)]


def _behind(case: LoginCase, targets: Sequence[Mapping[str, Any]]) -> Verdict:
    """Return whether a proxy reaches a database: RDS keeps the proxy available while its targets are not."""
    if not targets:
        register = f"aws rds register-db-proxy-targets --db-proxy-name {case.name} …"
        return fail(f"no database is behind {case.name}", register)
    # A cluster that is tracked has no health of its own, its members have.
    health = {
        str(target.get("RdsResourceId")): target["TargetHealth"] for target in targets if target.get("TargetHealth")
    }
    down = {name: state for name, state in health.items() if state.get("State") != "AVAILABLE"}
    if not down or len(down) < len(health):
        return ok(f"behind {case.name}: {', '.join(sorted(str(target.get('RdsResourceId')) for target in targets))}")
    problems = [f"{name} is {state.get('State')} ({state.get('Reason', 'no reason')})" for name, state in down.items()]
    return fail(
        f"{case.name} reaches no database: {', '.join(problems)}",
        shell.join(["rdsiam", "doctor", min(down), case.user]),
    )


def rate(case: LoginCase) -> Verdict:
    """Check that RDS throttled no logins lately."""
    if case.database.kind == "proxy":
        return unknown("CloudWatch has this metric of databases, not of proxies", "diagnose the database behind it")
    now = datetime.now(UTC)
    points = case.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS",
        MetricName="IamDbAuthConnectionFailureThrottling",
        Dimensions=[
            {"Name": f"DB{'Cluster' if case.database.kind == 'cluster' else 'Instance'}Identifier", "Value": case.name}
        ],
        StartTime=now - timedelta(minutes=15),
        EndTime=now,
        Period=900,
        Statistics=["Sum"],
    )["Datapoints"]
    throttled = round(sum(point["Sum"] for point in points))
    if throttled:
        fix = "reuse connections; retry with a growing, random pause; a larger instance class"
        return fail(
            f"{counted(throttled, 'login')} {agreed(throttled, 'was', 'were')} throttled within 15 minutes", fix
        )
    return ok("no login was throttled within 15 minutes")

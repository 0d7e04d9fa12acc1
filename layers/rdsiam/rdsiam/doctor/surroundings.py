"""Checks of proxies in front of the database and of throttled logins."""

from datetime import UTC, datetime, timedelta

from rdsiam.doctor.case import LoginCase, Verdict, fail, ok


def proxy(case: LoginCase) -> Verdict:
    """Look for proxies that log in by password."""
    rds = case.client("rds")
    names = {case.name, case.owner}
    proxies = []
    for description in rds.describe_db_proxies()["DBProxies"]:
        if description.get("DefaultAuthScheme") == "IAM_AUTH":
            continue
        targets = rds.describe_db_proxy_targets(DBProxyName=description["DBProxyName"])["Targets"]
        if any(names & {target.get("RdsResourceId"), target.get("TrackedClusterId")} for target in targets):
            proxies.append(str(description["DBProxyName"]))
    if proxies:
        return ok(f"behind {', '.join(proxies)}, which logs in by password: users of it can't be IAM users here")
    return ok("no proxy that logs in by password is in front of the database")


def rate(case: LoginCase) -> Verdict:
    """Check that RDS throttled no logins lately."""
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
    throttled = sum(point["Sum"] for point in points)
    if throttled:
        fix = "reuse connections; retry with a growing, random pause; a larger instance class"
        return fail(f"{throttled:.0f} logins were throttled within 15 minutes", fix)
    return ok("no login was throttled within 15 minutes")

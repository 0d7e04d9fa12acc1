"""A fleet spoiled by hand in every way that the audit knows: all is found, nothing else is, and its own remedies work.

Spoiling takes plain SQL and boto3, as people do it; remedies are run as they are printed: SQL by the master, commands
by a shell with the AWS CLI, lines of access.yaml by adding them.
"""

import json

import pytest

from tests.integration.account import until
from tests.integration.audit.spoiled_fleet import CL, LOST, MY, OFF, PENDING, PG, SMALL, STOPPED, Fleet, user

#: What has to be found: kind, database, user.
Expected = set[tuple[str, str, str | None]]


@pytest.fixture(scope="module")
def fleet(account) -> Fleet:
    made = Fleet(account, account.make_role("spoil-app"))
    made.make()
    return made


def spoil_postgres(fleet: Fleet) -> Expected:
    """Spoil accounts of PostgreSQL and TLS."""
    fleet.master(
        PG,
        "CREATE ROLE pw_user LOGIN PASSWORD 'hunter2'",
        "CREATE ROLE by_hand LOGIN",
        "GRANT rds_iam TO by_hand",
        "CREATE ROLE team NOLOGIN",
        "GRANT rds_iam TO team",
        "CREATE ROLE caught LOGIN PASSWORD 'hunter2'",
        "GRANT team TO caught",
        "CREATE ROLE second_boss LOGIN CREATEROLE PASSWORD 'hunter2'",
        "GRANT team TO second_boss",
        "CREATE ROLE vendor LOGIN PASSWORD 'hunter2'",
        "CREATE ROLE vendor_clone LOGIN PASSWORD 'hunter2'",
        "GRANT CREATE ON SCHEMA public TO vendor_clone",
        'CREATE ROLE "bobby""; DROP TABLE" LOGIN PASSWORD \'hunter2\'',
        "CREATE ROLE asleep NOLOGIN PASSWORD 'hunter2'",  # nobody can log in as it: nothing to report
    )
    with fleet.account.connect(fleet.arns[PG], "vendor_clone", "hunter2") as clone:
        clone.run("CREATE TABLE public.of_the_clone (id int)")
    fleet.manager(PG, "ALTER ROLE reader NOLOGIN", "REVOKE shop_readwrite FROM writer")
    fleet.set_parameter("spoil-postgres", "rds.force_ssl", "0")
    return {
        ("user-without-iam", PG, "pw_user"),
        ("user-without-iam", PG, 'bobby"; DROP TABLE'),
        ("undeclared-user", PG, "by_hand"),
        ("group-with-rds-iam", PG, "team"),
        ("user-inherits-rds-iam", PG, "caught"),
        ("administrator-locked-out", PG, "second_boss"),
        ("user-without-iam", PG, "vendor"),
        ("user-without-iam", PG, "vendor_clone"),
        ("objects-owned-by-clone", PG, "vendor_clone"),
        ("missing-user", PG, "reader"),
        ("privileges-differ", PG, "writer"),
        ("tls-not-enforced", PG, None),
    }


def spoil_mariadb(fleet: Fleet) -> Expected:
    """Spoil accounts of MariaDB and TLS."""
    fleet.master(
        MY,
        "CREATE USER 'pw_any'@'%' IDENTIFIED BY 'hunter2'",
        "CREATE USER 'pw_local'@'10.0.0.%' IDENTIFIED BY 'hunter2'",
        "CREATE USER `o'brien\\`@'%' IDENTIFIED BY 'hunter2'",
        "CREATE USER 'nobody_asks'@'%'",
        "CREATE USER ''@'10.1.2.3'",
        "CREATE USER 'by_hand'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL",
        "CREATE USER 'half'@'10.%' IDENTIFIED BY 'hunter2'",
        "CREATE USER 'pooled_pw'@'%' IDENTIFIED BY 'hunter2'",  # behind a classic proxy: nothing to report
        "CREATE USER 'asleep'@'%' IDENTIFIED BY 'hunter2' ACCOUNT LOCK",
        "ALTER USER 'second'@'%' IDENTIFIED VIA AWSAuthenticationPlugin USING 'RDS' "
        "OR mysql_native_password USING PASSWORD('hunter2') REQUIRE SSL",
        "ALTER USER 'plain'@'%' REQUIRE NONE",
        "DROP USER 'gone'@'%'",
        "REVOKE INSERT ON `shop`.* FROM 'writer'@'%'",
    )
    fleet.set_parameter("spoil-mariadb", "require_secure_transport", "0")
    return {
        ("user-without-iam", MY, "pw_any@%"),
        ("user-without-iam", MY, "pw_local@10.0.0.%"),
        ("user-without-iam", MY, "o'brien\\@%"),
        ("user-with-empty-password", MY, "nobody_asks@%"),
        ("anonymous-user", MY, "@10.1.2.3"),
        ("undeclared-user", MY, "by_hand@%"),
        ("user-partly-converted", MY, "half"),
        ("user-with-second-password", MY, "second@%"),
        ("user-without-tls", MY, "plain@%"),
        ("missing-user", MY, "gone"),
        ("privileges-differ", MY, "writer@%"),
        ("tls-not-enforced", MY, None),
    }


def spoil_instances(fleet: Fleet) -> Expected:
    """Spoil what RDS says of databases, and take logins from the auditor."""
    rds = fleet.account.cloud.client("rds")
    rds.modify_db_instance(DBInstanceIdentifier=OFF, EnableIAMDatabaseAuthentication=False, ApplyImmediately=True)
    rds.modify_db_instance(DBInstanceIdentifier=PENDING, EnableIAMDatabaseAuthentication=False, ApplyImmediately=False)
    rds.modify_db_instance(DBInstanceIdentifier=SMALL, DBInstanceClass="db.t4g.micro", ApplyImmediately=True)
    rds.stop_db_instance(DBInstanceIdentifier=STOPPED)
    fleet.manager(LOST, "ALTER ROLE rdsiam_auditor NOLOGIN")
    until(lambda: not fleet.account.describe(fleet.arns[OFF])["IAMDatabaseAuthenticationEnabled"], 60)
    until(lambda: fleet.account.describe(fleet.arns[SMALL])["DBInstanceClass"] == "db.t4g.micro", 60)
    fleet.account.wait(fleet.arns[STOPPED], "stopped")
    fleet.account.declare(CL, user("writer", roles=[fleet.role]) | {"on": ["nowhere", "shop"]})
    return {
        ("iam-authentication-off", OFF, None),
        ("iam-authentication-pending", PENDING, None),
        ("instance-too-small", SMALL, None),
        ("database-unreachable", STOPPED, None),
        ("database-unreachable", LOST, None),
        ("declared-database-missing", CL, None),
    }


def spoil_proxies_and_secrets(fleet: Fleet) -> Expected:
    """Put a classic proxy in front of MariaDB, with secrets of its users, and let a rotation get stuck."""
    rds = fleet.account.cloud.client("rds")
    kept = {name: fleet.secret(f"spoil-{name}", MY, name) for name in ("pooled", "pooled_pw", "second")}
    rds.create_db_proxy(
        DBProxyName="spoil-proxy",
        EngineFamily="MYSQL",
        Auth=[
            {"AuthScheme": "SECRETS", "SecretArn": kept[name], "IAMAuth": "DISABLED"}
            for name in ("pooled", "pooled_pw")
        ],
        RoleArn=fleet.role,
        VpcSubnetIds=[one["SubnetId"] for one in fleet.account.cloud.client("ec2").describe_subnets()["Subnets"]],
        RequireTLS=False,
    )
    rds.register_db_proxy_targets(DBProxyName="spoil-proxy", DBInstanceIdentifiers=[MY])
    stuck = fleet.secret("spoil-stuck", MY, "pw_any")
    fleet.account.cloud.client("secretsmanager").put_secret_value(
        SecretId=stuck, SecretString='{"username": "pw_any"}', VersionStages=["AWSPENDING"]
    )
    return {
        ("proxy-user-with-iam", MY, "pooled@%"),
        ("proxy-without-tls", MY, None),
        ("rotation-stuck", MY, "pw_any"),
    }


def spoil_policies(fleet: Fleet) -> Expected:
    """Attach policies by hand that allow too much, the wrong thing or nothing."""
    rds = fleet.account.cloud.client("rds")
    member = rds.describe_db_instances(DBInstanceIdentifier=f"{CL}-writer")["DBInstances"][0]["DbiResourceId"]
    cloud, own = fleet.account.cloud, fleet.resource_id(PG)
    fleet.allow("spoil-anybody", {"Resource": fleet.dbuser("*", "*")})
    fleet.allow("spoil-everything", {"Action": "*", "Resource": "*"})
    fleet.allow("spoil-any-user", {"Resource": fleet.dbuser(own, "*")})
    fleet.allow("spoil-stale", {"Resource": fleet.dbuser("db-ABCDEFGHIJKLMNOPQRSTUVWXYZ", "writer")})
    fleet.allow("spoil-member", {"Resource": fleet.dbuser(member, "writer")})
    fleet.allow("spoil-mixed-up", {"Resource": f"arn:aws:rds:{cloud.region}:{cloud.account}:db:{PG}"})
    fleet.allow("spoil-undeclared", {"Resource": fleet.dbuser(own, "writer")})
    fleet.allow("spoil-case", {"Resource": fleet.dbuser(own, "WRITER")})
    fleet.holders["spoil-app"] = fleet.role
    fleet.allow(
        "spoil-app",
        {"Resource": fleet.dbuser(own, "writer"), "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
    )
    return {
        ("wildcard-connect-policy", "", "spoil-anybody"),
        ("wildcard-connect-policy", "", "spoil-everything"),
        ("wildcard-connect-policy", PG, "spoil-any-user"),
        ("stale-resource-id", "", "spoil-stale"),
        ("member-resource-id", CL, "spoil-member"),
        ("wrong-connect-arn", "", "spoil-mixed-up"),
        ("undeclared-connect-grant", PG, "spoil-undeclared"),
        ("user-name-case", PG, "spoil-case"),
        ("condition-on-connect-policy", PG, "spoil-app"),
    }


def spoil(fleet: Fleet) -> Expected:
    """Spoil the fleet in every way."""
    ways = (spoil_postgres, spoil_mariadb, spoil_instances, spoil_proxies_and_secrets, spoil_policies)
    return {problem for way in ways for problem in way(fleet)}


@pytest.mark.exhaustive  # each kind of finding has a test of its own; this takes a minute of CPU
def test_a_fleet_in_order_gives_nothing_then_all_that_is_spoiled_is_found_and_remediated(fleet):
    rds = fleet.account.cloud.client("rds")
    # What rdsiam leaves alone.
    for engine, make in (("neptune", rds.create_db_cluster), ("docdb", rds.create_db_cluster)):
        make(DBClusterIdentifier=f"spoil-{engine}", Engine=engine, MasterUsername="boss", MasterUserPassword="s" * 12)
    fleet.account.create("spoil-oracle", "oracle-ee", LicenseModel="bring-your-own-license")
    assert fleet.short(fleet.findings()) == set()

    expected = spoil(fleet)
    found = fleet.findings()
    missed, surplus = expected - fleet.short(found), fleet.short(found) - expected
    assert not missed, f"not found: {missed}"
    assert not surplus, f"found, though nobody spoiled it: {surplus}"
    assert len({kind for kind, _, _ in expected}) >= 25
    again = fleet.findings()
    assert {one["id"] for one in again} == {one["id"] for one in found}, "the same problem has the same id"
    assert not any("canary-of-the-spoiled" in json.dumps(one) or "hunter2" in json.dumps(one) for one in found)

    # A remediation may bring to light what was hidden behind it: who was an administrator by a group is one with a
    # password now, and a proxy that passes tokens on needs its secrets no more.
    for _ in range(3):
        # Onboarding refuses a server as long as one account stands in its way: once more when all others are fixed.
        for finding in [one for one in found if not fleet.mends(one)]:
            fleet.mend(finding)
        rest = fleet.findings()
        assert not {one["id"] for one in found} & {one["id"] for one in rest}, fleet.short(rest)
        found = rest
    assert fleet.short(found) == set()

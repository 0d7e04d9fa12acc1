"""Engine versions: what RDS offers and refuses, in AWS's words."""

import pytest

from localcloud.databases.rds import versions
from localcloud.databases.rds.versions import UnknownVersion, UpgradeRefused, check_upgrade, resolve, upgrade_targets
from localcloud.databases.servers.postgres_programs import VERSIONS


@pytest.mark.parametrize("engine", ["postgres", "aurora-postgresql"])
def test_postgresql_is_offered_in_the_versions_that_have_a_server_here(engine):
    assert [int(series.name) for series in versions.series_of(engine)] == list(VERSIONS)


@pytest.mark.parametrize(
    ("engine", "requested", "version"),
    [
        ("postgres", None, "18.1"),
        ("postgres", "14.12", "14.12"),
        ("postgres", "14", "14.23"),
        ("mysql", "8.0", "8.0.45"),
        ("mariadb", "10.11.11", "10.11.11"),
        ("aurora-mysql", "8.0.mysql_aurora.3.08.2", "8.0.mysql_aurora.3.08.2"),
        ("oracle-ee", "19.0.0.0.ru-2024-01.rur-2024-01.r1", "19.0.0.0.ru-2024-01.rur-2024-01.r1"),
    ],
)
def test_a_database_has_the_version_that_was_asked_for(engine, requested, version):
    assert resolve(engine, requested) == version


@pytest.mark.parametrize(
    ("engine", "requested"), [("postgres", "12.22"), ("postgres", "14.99"), ("mysql", "14.12"), ("mariadb", "")]
)
def test_an_unknown_version_is_refused_in_the_words_of_aws(engine, requested):
    with pytest.raises(UnknownVersion) as refusal:
        resolve(engine, requested)
    assert str(refusal.value) == f"Cannot find version {requested} for {engine}"


@pytest.mark.parametrize("engine", sorted(versions.DEFAULTS))
def test_the_default_version_is_offered(engine):
    assert resolve(engine, versions.DEFAULTS[engine]) == versions.DEFAULTS[engine]


def test_a_major_upgrade_leads_to_a_version_that_is_not_older():
    targets = dict(upgrade_targets("postgres", "16.13"))

    assert targets["16.14"] is False
    assert targets["17.9"] is True
    assert "17.8" not in targets  # older than 16.13, as AWS refuses it
    assert "16.12" not in targets
    assert "15.18" not in targets


@pytest.mark.parametrize(
    ("version", "target"),
    [("14.12", "14.11"), ("14.12", "13.23"), ("18.4", "18.4"), ("16.13", "17.6"), ("14.12", "14.99")],
)
def test_an_upgrade_that_aws_does_not_offer_is_refused_in_its_words(version, target):
    with pytest.raises(UpgradeRefused) as refusal:
        check_upgrade("postgres", version, target, allow_major=True)
    assert str(refusal.value) == f"Cannot upgrade postgres from {version} to {target}"


def test_a_major_upgrade_needs_the_flag():
    with pytest.raises(UpgradeRefused, match="AllowMajorVersionUpgrade flag must be present"):
        check_upgrade("postgres", "14.12", "18.1", allow_major=False)
    check_upgrade("postgres", "14.12", "18.1", allow_major=True)
    check_upgrade("postgres", "14.12", "14.23", allow_major=False)


def test_iam_authentication_is_said_of_engines_and_series_that_have_it():
    said = {series.family: versions.has_iam(series) for series in versions.SERIES}

    assert [family for family, has_iam in said.items() if not has_iam] == ["mariadb10.6"]
    assert not versions.has_iam(versions.Series("mariadb", "10.5", ()))
    assert not versions.has_iam(versions.Series("oracle-ee", "19", ()))

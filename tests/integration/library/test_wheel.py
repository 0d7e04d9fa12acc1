"""The library's wheel, built and installed in clean environments of the oldest and of our Python."""

import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rdsiam.signer import Credentials, TokenSigner
from tests.integration.library.environments import LAYER, OLDEST, OURS, ROOT, Environment, build, install

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-key", "AWS_SESSION_TOKEN": "session-token"}
HOST = "orders.c9akciq32.eu-central-1.rds.amazonaws.com"
BASE = {"botocore", "click", "jmespath", "python-dateutil", "rdsiam", "six", "urllib3"}
CLIENT_EXTRAS = ("access", "mysql", "postgres", "sqlalchemy")
#: What an application that imports the signer and the pool must not load.
HEAVY = {"boto3", "botocore", "click", "django", "psycopg", "psycopg_pool", "pydantic", "pymysql", "sqlalchemy", "yaml"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module", params=[OLDEST, pytest.param(OURS, marks=pytest.mark.exhaustive)])
def base(request, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install(wheel, tmp_path_factory.mktemp("base") / "env", request.param, ())


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment of the oldest Python with all extras of applications and of the functions."""
    return install(wheel, tmp_path_factory.mktemp("full") / "env", OLDEST, (*CLIENT_EXTRAS, "functions"))


def test_the_wheel_has_the_library_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"rdsiam", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    sources = {str(path.relative_to(LAYER)) for path in (LAYER / "rdsiam").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("rdsiam/")} == {
        name for name in sources if "__pycache__" not in name
    }
    assert (LAYER / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_applications_get_seven_small_packages(base):
    assert base.packages == BASE


def test_installed_packages_fit_each_other(base, full):
    for environment in (base, full):
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", environment.folder / "bin" / "python", "check"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "No broken requirements found."), done.stdout


def test_a_token_is_signed_with_the_credentials_of_the_environment(base):
    code = f"""
from datetime import UTC, datetime
from rdsiam.pool import Login
from rdsiam.signer import Credentials, TokenSigner
at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
signer = TokenSigner(Credentials("AKIDEXAMPLE", "secret-key", "session-token"), "eu-central-1")
print(signer.token({HOST!r}, 5432, "app", at))
print(Login({HOST!r}, 5432, "app").token())"""
    at_a_time, now = base.python(code, **KEYS).splitlines()
    signer = TokenSigner(Credentials(*KEYS.values()), "eu-central-1")
    assert at_a_time == signer.token(HOST, 5432, "app", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert now.startswith(f"{HOST}:5432/?Action=connect&DBUser=app&")


@pytest.mark.parametrize("module", ["rdsiam.signer", "rdsiam.pool"])
def test_importing_the_library_loads_no_heavy_module(full, module):
    loaded = full.python(f"import sys, {module}; print(*sys.modules)").split()
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()


def test_the_command_works_with_the_base_alone(base):
    assert base.run("rdsiam", "--version").stdout == "rdsiam 0.1.0\n"
    assert "  psql  " in base.run("rdsiam", "--help").stdout
    token = base.run("rdsiam", "token", "--host", HOST, "--port", "5432", "--user", "app", **KEYS)
    assert token.stdout.startswith(f"{HOST}:5432/?Action=connect&DBUser=app&"), token.stderr
    explained = base.run("rdsiam", "doctor", "--error", "PAM authentication failed for user")
    assert "the token was refused" in explained.stdout, explained.stderr
    refused = base.run("rdsiam", "access", "validate", "access.yaml")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert refused.stderr == "rdsiam: pydantic is not installed; pip install 'rdsiam[access]' [extra-missing]\n"


def test_a_pool_without_its_driver_names_the_extra(base):
    code = f"""
from rdsiam import pool
from rdsiam.errors import ExtraMissing
login = pool.Login({HOST!r}, 5432, "app")
for make in (login.psycopg, lambda: pool.psycopg_pool(login, "shop"), lambda: pool.pymysql_connect(login),
             lambda: pool.sqlalchemy_engine(login, "postgresql+psycopg", "shop")):
    try:
        make()
    except ExtraMissing as error:
        print(error)"""
    assert base.python(code, **KEYS).splitlines() == [
        "psycopg is not installed; pip install 'rdsiam[postgres]'",
        "psycopg_pool is not installed; pip install 'rdsiam[postgres]'",
        "pymysql is not installed; pip install 'rdsiam[mysql]'",
        "sqlalchemy is not installed; pip install 'rdsiam[sqlalchemy]'",
    ]


def test_every_module_of_the_library_can_be_imported_on_the_oldest_python(full):
    code = """
import pkgutil, importlib, rdsiam
for module in pkgutil.walk_packages(rdsiam.__path__, "rdsiam."):
    if not module.name.startswith("rdsiam.django.") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)"""
    assert len(full.python(code).splitlines()) > 250


def test_access_yaml_is_validated_with_its_extra(full, tmp_path):
    file = tmp_path / "access.yaml"
    file.write_text("""version: 1
databases:
  - match: {identifier: orders}
    users:
      - {name: app, privileges: readonly, on: [shop], roles: [arn:aws:iam::123456789012:role/app]}
""")
    done = full.run("rdsiam", "access", "validate", str(file))
    assert (done.returncode, done.stderr) == (0, f"{file} is valid\n")


APPLICATION = f"""
from rdsiam.pool import Login, pymysql_connect, sqlalchemy_engine, use_tokens
from rdsiam.signer import Credentials, TokenSigner

login = Login({HOST!r}, 5432, "app", credentials=lambda: Credentials("key", "secret"))
token: str = TokenSigner(Credentials("key", "secret"), "eu-central-1").token(login.host, login.port, login.user)
host: str = login.host
arguments: dict[str, object] = login.psycopg()
"""


def mypy(environment: Environment, folder: Path, application: str) -> list[tuple[int, str]]:
    """Return the errors of an application that uses the installed library: line and problem."""
    file = folder / "application.py"
    file.write_text(application)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file="),
            *(f"--cache-dir={folder / 'cache'}", f"--python-executable={environment.folder / 'bin' / 'python'}"),
            file.name,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    lines = [line.split(":", 3) for line in done.stdout.splitlines()]
    return [(int(number), problem.partition(" (")[0].strip()) for _, number, _, problem in lines]


def test_the_installed_library_is_typed_for_applications(base, tmp_path):
    wrong = APPLICATION.count("\n") + 1
    errors = mypy(base, tmp_path, APPLICATION + "wrong: int = login.token()\n")
    assert errors == [(wrong, "Incompatible types in assignment")]


@pytest.mark.exhaustive
def test_pools_of_the_installed_library_have_the_types_of_their_libraries(full, tmp_path):
    application = (
        APPLICATION
        + """
from psycopg_pool import ConnectionPool
from rdsiam.pool import psycopg_pool
from sqlalchemy import Engine

pool: ConnectionPool = psycopg_pool(login, "shop", max_size=10)
engine: Engine = sqlalchemy_engine(login, "postgresql+psycopg", "shop", pool_size=10)
use_tokens(engine, login)
"""
    )
    wrong = application.count("\n") + 1
    errors = mypy(full, tmp_path, application + "other: ConnectionPool = engine\n")
    assert errors == [(wrong, "Incompatible types in assignment")]

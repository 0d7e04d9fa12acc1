"""Whatever ends a cloud, nothing of it is left: no process and no directory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localcloud import client
from localcloud.client import RunningCloud
from localcloud.core.hosts import hosts_path
from localcloud.databases.rds.names import Names

Eventually = Callable[..., Any]
DATABASE = ("--database", "postgres:first:shop")


def _traces(directory: str, endpoint: str) -> set[int]:
    """Return processes that mention a cloud's directory or endpoint in arguments, environment, files or directory."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            links = [str((process / "cwd").readlink())]
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    links.append(str(descriptor.readlink()))
            if any(mark in text for mark in (directory, endpoint) for text in (said.decode(errors="replace"), *links)):
                found.add(int(process.name))
    return found


def _busy(cloud: RunningCloud) -> tuple[str, str]:
    """Have a function running too; return the places where the cloud may leave traces."""
    name = cloud.info["functions"]["OnboardFunction"]
    cloud.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    traces = str(cloud.directory), cloud.endpoint
    assert len(_traces(*traces)) > 4
    return traces


@pytest.mark.exhaustive_on("SIGINT", "SIGKILL")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_nothing_is_left(tmp_path: Path, eventually: Eventually, how: signal.Signals) -> None:
    """A function is running, and a database is being made, which doesn't hold up the end."""
    cloud = client.start(*DATABASE, log=tmp_path / "log")
    traces = _busy(cloud)
    host = cloud.info["databases"][0]["host"]
    assert host in hosts_path().read_text()
    cloud.client("rds").create_db_instance(
        DBInstanceIdentifier="early", DBInstanceClass="db.t4g.medium", Engine="postgres", AllocatedStorage=20,
        MasterUsername="boss", ManageMasterUserPassword=True,
    )  # fmt: skip
    code = cloud.stop(how)
    assert code == (-9 if how == signal.SIGKILL else 0), (tmp_path / "log").read_text()
    assert how == signal.SIGKILL or not Path(traces[0]).exists()
    eventually(lambda: not _traces(*traces))
    eventually(lambda: not Path(traces[0]).exists())
    assert "Traceback" not in (tmp_path / "log").read_text()
    if how == signal.SIGKILL:
        Names().close()  # the next start
    assert host not in hosts_path().read_text()


@pytest.mark.exhaustive
def test_two_signals_at_once_leave_nothing_as_one_does(tmp_path: Path, eventually: Eventually) -> None:
    """`kill %1` for `make local`: the shell signals the whole job, and `make` signals localcloud once more."""
    cloud = client.start(*DATABASE, log=tmp_path / "log")
    traces = _busy(cloud)
    host = cloud.info["databases"][0]["host"]
    cloud.process.terminate()
    assert cloud.stop() == 0, (tmp_path / "log").read_text()
    assert not Path(traces[0]).exists()
    assert host not in hosts_path().read_text()
    eventually(lambda: not _traces(*traces))


def test_a_cloud_that_is_stopped_while_it_starts_leaves_nothing(tmp_path: Path, eventually: Eventually) -> None:
    """It makes none of the databases that it was asked for."""
    command = [sys.executable, "-m", "localcloud", "--die-with-parent", "--log-file", "-", *DATABASE]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=Path(client.__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=file,
            env=_environment(tmp_path),
        )
    eventually(lambda: list(tmp_path.glob("localcloud-*/logs")))
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b""), log.read_text()
    assert "stopped before all had started" in log.read_text()
    assert list(tmp_path.glob("localcloud-*")) == []
    assert "database is being created" not in log.read_text()


def _environment(temporary: Path) -> dict[str, str]:
    """Return the environment of a cloud with a folder of its own for temporary files."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "TMPDIR": str(temporary),
    }


def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path, eventually: Eventually) -> None:
    program = (
        "import json, time; from pathlib import Path; from localcloud import client;"
        f"cloud = client.start(*{DATABASE!r}, log=Path({str(tmp_path / 'log')!r}));"
        "print(json.dumps(cloud.info), flush=True); time.sleep(60)"
    )
    root = Path(client.__file__).parents[1]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    assert parent.stdout is not None
    info = json.loads(parent.stdout.readline())
    traces = info["directory"], info["aws_endpoint_url"]
    assert _traces(*traces)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not _traces(*traces))
    eventually(lambda: not Path(traces[0]).exists())


@pytest.mark.exhaustive  # as the clouds of the workers do
def test_clouds_run_side_by_side(cloud: RunningCloud, tmp_path: Path) -> None:
    with client.start(*DATABASE, log=tmp_path / "log") as other:
        assert other.endpoint != cloud.endpoint
        assert other.info["databases"][0]["identifier"] == "first"
        identifiers = {each["DBInstanceIdentifier"] for each in _instances(cloud)}
        assert "first" not in identifiers
        assert {each["DBInstanceIdentifier"] for each in _instances(other)} == {"first"}


def _instances(cloud: RunningCloud) -> list[dict[str, Any]]:
    return list(cloud.client("rds").describe_db_instances()["DBInstances"])

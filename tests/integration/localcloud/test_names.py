"""Names of databases where `/etc/hosts` can't be written: functions, programs and shells find them by nss_wrapper."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud import client
from localcloud.client import CloudFailed
from localcloud.core import hosts

ROOT = Path(client.__file__).parents[1]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return another hosts file than the system's, which programs are not told of yet."""
    monkeypatch.setenv(hosts.VARIABLE, str(tmp_path / "hosts"))
    return tmp_path / "hosts"


def test_a_program_that_would_not_find_the_names_is_told_so_at_the_start(file):
    with pytest.raises(CloudFailed, match=r"start it by \$\(python -m localcloud.core.hosts\) COMMAND"):
        client.start()
    command = [sys.executable, "-m", "localcloud.core.hosts"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert printed[0] == "env"
    assert f"NSS_WRAPPER_HOSTS={file}" in printed


@pytest.mark.exhaustive
def test_a_database_is_onboarded_and_used_without_a_name_in_the_system_s_file(file, tmp_path, monkeypatch):
    for name, value in hosts.variables().items():
        monkeypatch.setenv(name, value)
    with client.start(log=tmp_path / "log") as cloud:
        (tmp_path / "cloud.json").write_text(json.dumps(cloud.info) + "\n")
        monkeypatch.delenv("LD_PRELOAD")
        login = [sys.executable, "-m", "demo.first_login", str(tmp_path / "cloud.json")]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'layers/rdsiam'}"}
        lines = subprocess.run(login, env=environment, capture_output=True, text=True, check=True).stdout
        assert "export LD_PRELOAD=" in lines
        (host,) = [line.split()[1] for line in file.read_text().splitlines() if "orders.c" in line]
        assert host not in hosts.SYSTEM.read_text()
        verified = f"host={host} user=app_service dbname=shop sslmode=verify-full sslrootcert={cloud.ca}"
        script = (
            f'{lines}\nrdsiam psql orders -d shop -- -XAtc "SELECT 1"\nPGPASSWORD=$(rdsiam token orders) '
            f'psql "{verified}" -XAtc "SELECT 2"\nunset LD_PRELOAD\npsql "{verified}" -XAtc "SELECT 3"'
        )
        done = subprocess.run(["/bin/bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n2\n", done.stderr
    assert "could not translate host name" in done.stderr
    assert host not in file.read_text()

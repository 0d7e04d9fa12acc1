"""Names of RDS's endpoints: their form, their addresses, their ports."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.core import hosts
from localcloud.databases.rds.names import Names, port_at


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(hosts.VARIABLE, str(tmp_path / "hosts"))
    return tmp_path / "hosts"


@pytest.fixture
def names(file: Path) -> Iterator[Names]:
    made = Names()
    yield made
    made.close()


def test_names_have_the_form_of_rds_and_are_the_cloud_s(names, file):
    other = Names()
    assert re.fullmatch(r"orders\.c[a-z0-9]{11}\.eu-west-1\.rds\.amazonaws\.com", names.instance("orders", "eu-west-1"))
    reader = names.other("cluster-ro", "fleet", "eu-west-1")
    assert reader == f"fleet.cluster-ro-{names.identifier}.eu-west-1.rds.amazonaws.com"
    assert other.instance("orders", "eu-west-1") != names.instance("orders", "eu-west-1")
    assert names.add(reader).split(".")[1] != other.add(reader).split(".")[1]
    other.close()
    assert file.read_text().count(reader) == 1
    names.close()
    assert "rds" not in file.read_text()


def test_a_renamed_address_has_one_name_and_a_removed_one_none(names, file):
    address = names.add("old.example")
    names.rename(address, "new.example")
    assert names.host_of(address) == "new.example"
    assert "old.example" not in file.read_text()
    names.remove(address)
    assert "new.example" not in file.read_text()


@pytest.mark.parametrize("host", ["a b", "a\n1.1.1.1 b", "a#b", "", "-a", "A.example", "a.example\n", "\u0130.example"])
def test_only_names_of_hosts_become_lines_of_the_file(names, file, host):
    address = names.add("good.example")
    before = file.read_text()
    with pytest.raises(ValueError, match="is no name of a host"):
        names.add(host)
    with pytest.raises(ValueError, match="is no name of a host"):
        names.rename(address, host)
    assert file.read_text() == before


def test_a_port_that_another_program_has_at_all_addresses_is_replaced_and_told(names, caplog):
    address = names.add("orders.example")
    with socket.create_server(("0.0.0.0", 0)) as other:  # noqa: S104
        taken = other.getsockname()[1]
        assert port_at(address, taken) != taken
    assert f"port {taken} is another program's" in caplog.text
    assert port_at(address, taken) == taken

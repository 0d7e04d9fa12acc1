"""TLS for tests of MySQL's logins."""

import pytest

from tests.unit.proxy.peers import contexts


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return contexts(tmp_path_factory.mktemp("tls"))

"""Endpoints without a server of their own, of which large fleets are made."""

import socket

import pytest


def test_an_endpoint_that_is_shared_has_its_own_tokens_and_a_silent_one_says_nothing(account):
    role = account.make_role("shared-app")
    account.declare("shared-server", {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
    server = account.create("shared-server")
    account.wait_onboarded(server, 120)
    tag = {"Key": "localcloud:shared-with", "Value": "shared-server"}
    shared = account.create("shared-endpoint", Tags=[tag])
    silent = account.create("shared-silent", Tags=[{**tag, "Value": "nobody"}])
    for arn in (shared, silent):
        account.wait(arn)
    assert account.describe(shared)["DbiResourceId"] != account.describe(server)["DbiResourceId"]
    of_server = account.assume(role)
    assert account.refused(shared, "app", account.token(server, "app", of_server))
    assert account.refused(shared, "app", account.token(shared, "app", of_server)), "no policy names its resource id"
    administrator = account.administrator()
    with account.connect(shared, "app", account.token(shared, "app", administrator)) as session:
        assert session.run("SELECT current_user") == [("app",)]
    endpoint = account.describe(silent)["Endpoint"]
    with socket.create_connection((endpoint["Address"], endpoint["Port"]), 5) as connection:
        connection.settimeout(0.5)
        connection.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        with pytest.raises(TimeoutError):
            connection.recv(1)

"""The `rdsiam` command as people use it: real processes, real servers, the real API where it has the route."""

import http.server
import json
import shutil
import threading

import pytest
import yaml

from tests.integration.commands import no_secret

# --- token ---


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_a_token_from_the_api_logs_in(rdsiam, account, place, engine):
    done = rdsiam("token", f"tokens-{engine}", "--user", "app", role="vended")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    account.connect(place["arns"][engine], "app", done.stdout.strip()).close()
    no_secret(done)


def test_a_token_signed_offline_logs_in(rdsiam, account, place):
    endpoint = account.describe(place["arns"]["postgres"])["Endpoint"]
    where = ["--host", endpoint["Address"], "--port", str(endpoint["Port"]), "--region", account.cloud.region]
    done = rdsiam("token", *where, "--user", "app2", role="signing", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    account.connect(place["arns"]["postgres"], "app2", done.stdout.strip()).close()


@pytest.mark.parametrize(
    ("arguments", "role", "code"),
    [
        (["tokens-postgres", "--user", "app"], "stranger", 4),
        (["unknown", "--user", "app"], "vended", 4),
        (["tokens-postgres", "--user", "oncall"], "vended", 4),
        (["tokens-postgres", "--user", "app", "--api-url", "http://localhost:9"], "vended", 6),
        (["tokens-postgres", "--user", "app", "--api-url", "http://api.example.com"], "vended", 2),
        (["tokens-postgres", "--user", "app", "--local"], "stranger", 4),
        (["tokens-postgres", "--local"], "signing", 2),
        (["db.example.invalid", "--user", "app"], "vended", 5),
        (["tokens-postgres", "--user", "a b"], "vended", 2),
    ],
    ids=str,
)
def test_exit_codes_of_refusals(rdsiam, arguments, role, code):
    done = rdsiam("token", *arguments, role=role)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("rdsiam: ")
    no_secret(done)


def test_the_reason_reaches_the_api(rdsiam):
    assert rdsiam("token", "tokens-postgres", "-u", "oncall", "--reason", "TICKET-9", role="vended").returncode == 0


# --- ls, and the one user: against the contract of GET /databases ---


@pytest.fixture
def listing():
    """Return a stand-in for `GET /databases`, which answers with what is put in its list."""
    answer: dict[str, object] = {"status": 200, "body": {"databases": []}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer["authorization"] = self.headers.get("authorization", "")
            body = json.dumps(answer["body"]).encode()
            self.send_response(int(str(answer["status"])))
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answer["url"] = f"http://127.0.0.1:{server.server_address[1]}"
    yield answer
    server.shutdown()
    server.server_close()


ONE = {
    "identifier": "orders",
    "arn": "arn:aws:rds:eu-west-1:1:db:orders",
    "engine": "postgres",
    "users": ["a", "b"],
    "host": "orders.c9akciq32.eu-west-1.rds.amazonaws.com",
    "port": 5432,
}


def test_ls_lists_databases_and_users(rdsiam, listing):
    listing["body"] = {"databases": [ONE]}
    table = rdsiam("ls", RDSIAM_API_URL=listing["url"])
    assert table.stdout.splitlines()[1].split() == ["orders", "postgres", "a,", "b", "5432", ONE["host"], ONE["arn"]]
    assert "/execute-api/aws4_request" in listing["authorization"]
    assert json.loads(rdsiam("ls", "--output", "json", RDSIAM_API_URL=listing["url"]).stdout) == [ONE]


@pytest.mark.parametrize(
    ("criteria", "listed"),
    [
        (["orders"], ["orders"]),
        (["ORD*"], ["orders"]),
        (["bill*", "ord*"], ["orders", "billing"]),
        (["ord"], []),
        (["--engine", "mysql"], ["billing"]),
        (["--user", "b"], ["orders"]),
        (["-u", "c", "--engine", "postgres"], []),
    ],
)
def test_ls_lists_what_matches(rdsiam, listing, criteria, listed):
    other = {**ONE, "identifier": "billing", "engine": "mysql", "users": ["a", "c"], "host": None, "port": None}
    listing["body"] = {"databases": [ONE, other]}
    done = rdsiam("ls", *criteria, "--output", "json", RDSIAM_API_URL=listing["url"])
    assert ([row["identifier"] for row in json.loads(done.stdout)], done.returncode) == (listed, 0)
    assert ("you may log in to 2 databases, and none matches" in done.stderr) == (not listed)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, {"message": "Forbidden"}, 4),
        (401, {"code": "no-token", "detail": "who are you?"}, 4),
        (404, {"message": "Not Found"}, 5),
        (429, {"message": "Too Many Requests"}, 6),
        (503, {"code": "unavailable", "detail": "try again"}, 6),
        (400, {"code": "malformed", "detail": "user: is odd"}, 2),
        (200, {"databases": "none"}, 1),
        (200, [], 1),
    ],
)
def test_each_answer_of_the_api_has_its_exit_code(rdsiam, listing, status, body, code):
    listing.update(status=status, body=body)
    done = rdsiam("ls", RDSIAM_API_URL=listing["url"])
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr


def test_several_users_are_listed_and_none_is_chosen(rdsiam, listing):
    listing["body"] = {"databases": [ONE]}
    done = rdsiam("token", "orders", RDSIAM_API_URL=listing["url"])
    assert done.returncode == 2
    assert "a, b" in done.stderr


# --- access, onboard, config ---


def test_access_is_checked_planned_and_published(rdsiam, account, tmp_path):
    bucket = account.cloud.outputs["AccessBucket"]
    current = account.cloud.client("s3").get_object(Bucket=bucket, Key="access.yaml")["Body"].read().decode()
    file = tmp_path / "access.yaml"
    file.write_text(current)
    where = ["--access-bucket", bucket]
    publish = ["access", "publish", "access.yaml", *where, "--confirm"]  # another file's version may be the applied one
    assert rdsiam("access", "validate", "access.yaml").returncode == 0
    assert rdsiam("access", "plan", "access.yaml", *where).returncode == 0

    data = yaml.safe_load(current)
    data["databases"].append(
        {
            "match": {"identifier": "tokens-postgres"},
            "users": [{"name": "added", "privileges": "readonly", "on": ["shop"]}],
        }
    )
    file.write_text(yaml.safe_dump(data))
    plan = rdsiam("access", "plan", "access.yaml", *where, "--database", "tokens-postgres", "--output", "json")
    assert plan.returncode == 3, plan.stderr
    assert json.loads(plan.stdout) == [{"database": "tokens-postgres", "user": "added", "change": "declared"}]
    dry = rdsiam(*publish, "--plan")
    assert dry.returncode == 3
    assert "because this is a plan" in dry.stderr
    assert rdsiam("access", "plan", "access.yaml", *where).returncode == 3, "a plan changes nothing"
    try:
        done = rdsiam(*publish, "--yes")
        assert done.returncode == 0, done.stderr
        assert "published as version" in done.stderr
        assert rdsiam("access", "plan", "access.yaml", *where).returncode == 0
        planned = rdsiam(
            "onboard", "tokens-postgres", "--plan", "--onboard-function", account.cloud.functions["OnboardFunction"]
        )
        assert planned.returncode == 3, planned.stderr
        assert 'CREATE ROLE "added"' in planned.stdout
    finally:
        account.publish(current)


def test_an_invalid_file_is_not_published(rdsiam, tmp_path):
    (tmp_path / "access.yaml").write_text("version: 1\ndatabases:\n  - match: {}\n    userz: []\n")
    done = rdsiam("access", "validate", "access.yaml")
    assert done.returncode == 3
    assert "line 4" in done.stderr
    assert rdsiam("access", "publish", "access.yaml", "--access-bucket", "b").returncode == 3
    done = rdsiam("access", "validate", "-", "--output", "json", input="version: 2")
    assert json.loads(done.stdout)["valid"] is False
    assert rdsiam("access", "validate", "missing.yaml").returncode == 5


def test_config_says_where_values_come_from(rdsiam, tmp_path):
    (tmp_path / "rdsiam.toml").write_text('access_bucket = "mine"\n')
    trusting = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert rdsiam("config", "trust", **trusting).returncode == 0
    done = rdsiam("config", "--output", "json", RDSIAM_AUDIT_FUNCTION="f:live", **trusting)
    found = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}
    assert found["access_bucket"] == ("mine", str(tmp_path / "rdsiam.toml"))
    assert found["audit_function"] == ("f:live", "RDSIAM_AUDIT_FUNCTION")
    assert found["stack"] == ("rdsiam", "default")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands(rdsiam):
    done = rdsiam(_RDSIAM_COMPLETE="bash_complete", COMP_WORDS="rdsiam onb", COMP_CWORD="1")
    assert "plain,onboard" in done.stdout

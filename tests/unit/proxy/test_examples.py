"""examples/proxy: each file is one that its reader takes, with command lines and configurations of `rdsiam proxy`."""

import json
import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from click.testing import CliRunner

from rdsiam.command.app import app
from rdsiam.proxy import proxy_file

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "proxy"
CONFIGURATION = "/etc/rdsiam/proxy.toml"
HEALTH = "http://127.0.0.1:9100/healthz"


def unit():
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(EXAMPLES / "rdsiam-proxy.service")
    return parser


def dockerfile():
    """Return the Dockerfile's instructions, each with its arguments."""
    text = re.sub(r"^#.*\n", "", (EXAMPLES / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def compose():
    return yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]


def manifests():
    return {each["kind"]: each for each in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())}


def pod():
    return manifests()["Deployment"]["spec"]["template"]["spec"]


def task():
    return json.loads((EXAMPLES / "ecs-task.json").read_text())


def containers_of(task_):
    return {each["name"]: each for each in task_["containerDefinitions"]}


def command_lines():
    """Return all arguments of `rdsiam proxy` in the examples, by the place that they are given in."""
    service = unit()["Service"]
    instructions = dict(dockerfile())
    entrypoint = json.loads(instructions["ENTRYPOINT"])
    assert entrypoint == ["rdsiam", "proxy"]
    lines = {
        "Dockerfile": json.loads(instructions["CMD"]),
        "compose": compose()["proxy"]["command"],
        "Kubernetes": pod()["initContainers"][0]["args"],
        "ECS": containers_of(task())["proxy"]["command"],
    }
    for name in ("ExecStartPre", "ExecStart"):
        program, command, *arguments = shlex.split(service[name])
        assert (program, command) == ("/opt/rdsiam/bin/rdsiam", "proxy")
        lines[name] = arguments
    for number, line in enumerate(re.findall(r"^(?:# )?rdsiam proxy (.*)$", written(), re.MULTILINE)):
        lines[f"text {number}"] = shlex.split(line)
    return lines


def written():
    """Return the text of all examples."""
    return "\n".join(path.read_text() for path in sorted(EXAMPLES.iterdir()))


def configurations():
    return {
        "proxy.toml": (EXAMPLES / "proxy.toml").read_text(),
        "Kubernetes": manifests()["ConfigMap"]["data"]["proxy.toml"],
    }


@pytest.mark.parametrize(("place", "arguments"), command_lines().items(), ids=command_lines())
def test_a_command_line_passes_the_commands_own_check(place, arguments, tmp_path):
    text = configurations().get(place, configurations()["proxy.toml"])
    (tmp_path / "proxy.toml").write_text(text)
    own = [str(tmp_path / "proxy.toml") if each == CONFIGURATION else each for each in arguments if each != "--check"]
    done = CliRunner().invoke(app, ["proxy", *own, "--check"])
    assert done.exit_code == 0, done.output
    assert "good" in done.output


@pytest.mark.parametrize(("place", "text"), configurations().items(), ids=configurations())
def test_a_configuration_serves_health_at_the_port_that_is_probed(place, text, tmp_path):
    (tmp_path / "proxy.toml").write_text(text)
    settings = proxy_file.read(tmp_path / "proxy.toml")
    assert settings.health_port == 9100
    # Only a pod has an address of its own, to which its node's probes come.
    assert settings.health_host == ("0.0.0.0" if place == "Kubernetes" else "127.0.0.1")  # noqa: S104
    assert {listener.host for listener in settings.listeners} == {"localhost"}


def test_a_drain_ends_before_the_proxy_is_killed():
    drain = {place: proxy_file.parse(text, Path("x")).drain_timeout for place, text in configurations().items()}
    ecs = containers_of(task())["proxy"]
    assert drain["proxy.toml"] < float(unit()["Service"]["TimeoutStopSec"])
    assert drain["proxy.toml"] < float(compose()["proxy"]["stop_grace_period"].removesuffix("s"))
    assert drain["Kubernetes"] < pod()["terminationGracePeriodSeconds"]
    assert float(ecs["command"][ecs["command"].index("--drain-timeout") + 1]) < ecs["stopTimeout"]


def test_the_unit_is_one_of_systemd(tmp_path):
    """Other programs in place of those that are installed later: `verify` looks whether they exist."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("this machine has no systemd-analyze")
    text = (EXAMPLES / "rdsiam-proxy.service").read_text().replace("/opt/rdsiam/bin/rdsiam", "/bin/true")
    (tmp_path / "rdsiam-proxy.service").write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--recursive-errors=no", tmp_path / "rdsiam-proxy.service"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_gives_the_proxy_no_rights():
    service = unit()["Service"]
    expected = {
        "Type": "notify",
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "MemoryDenyWriteExecute": "yes",
    }
    assert {name: service[name] for name in expected} == expected
    assert "User" not in service


def test_the_image_runs_as_a_user_without_rights_on_a_pinned_base():
    instructions = dockerfile()
    stages = [index for index, (name, _) in enumerate(instructions) if name == "FROM"]
    base = dict(instructions)["ARG"]
    assert re.fullmatch(r"PYTHON=python:3\.13\.\d+-slim-bookworm", base)
    assert all(instructions[index][1].startswith("${PYTHON}") for index in stages)
    last = dict(instructions[stages[-1] :])
    assert last["USER"] == "65532:65532"
    assert "RUN" not in last
    assert HEALTH in last["HEALTHCHECK"]


def test_the_image_copies_the_library_and_nothing_else_of_the_repository():
    proxy_ = compose()["proxy"]["build"]
    context = (EXAMPLES / proxy_["context"]).resolve()
    assert context == ROOT / "layers" / "rdsiam"
    assert (context / proxy_["dockerfile"]).resolve() == EXAMPLES / "Dockerfile"
    assert {"pyproject.toml", "requirements.txt", "README.md", "LICENSE"} <= {path.name for path in context.iterdir()}


def test_compose_shares_the_proxys_loopback_with_the_application_and_publishes_nothing():
    services = compose()
    assert services["application"]["network_mode"] == "service:proxy"
    assert services["application"]["depends_on"]["proxy"]["condition"] == "service_healthy"
    for service in services.values():
        assert "ports" not in service
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    sources = [volume["source"] for volume in services["proxy"]["volumes"]]
    assert (EXAMPLES / sources[0]).is_file()
    assert all(volume["read_only"] for volume in services["proxy"]["volumes"])


def test_the_sidecar_begins_before_the_application_and_ends_after_it():
    (sidecar,) = pod()["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {"name": "health", "containerPort": 9100} in sidecar["ports"]


def test_the_pod_has_the_role_of_irsa_and_no_rights_otherwise():
    account = manifests()["ServiceAccount"]
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith(
        "arn:aws:iam::123456789012:role/"
    )
    assert pod()["serviceAccountName"] == account["metadata"]["name"]
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    for container in [*pod()["initContainers"], *pod()["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    names = {kind: each["metadata"]["namespace"] for kind, each in manifests().items()}
    assert set(names.values()) == {"shop"}


def test_the_task_is_one_that_ecs_registers():
    ecs = botocore.session.get_session().get_service_model("ecs")
    shape = ecs.operation_model("RegisterTaskDefinition").input_shape
    assert shape is not None
    report = ParamValidator().validate(task(), shape)
    assert not report.has_errors(), report.generate_report()


def test_the_tasks_application_waits_for_the_proxy():
    containers = containers_of(task())
    assert containers["application"]["dependsOn"] == [{"containerName": "proxy", "condition": "HEALTHY"}]
    assert HEALTH in containers["proxy"]["healthCheck"]["command"][-1]
    for container in containers.values():
        assert container["readonlyRootFilesystem"] is True
        assert container["user"] == "65532:65532"
        assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}


def test_no_example_has_a_secret():
    assert not re.search(r"(?i)password|aws_secret|AKIA|ASIA", re.sub(r"sslmode=disable", "", written()))

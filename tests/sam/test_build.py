"""The deployed packages: for the right processor, complete, small enough, without foreign files."""

import re
import struct
import tomllib

import pytest

from localcloud.aws.expand import read
from tests.sam.builds import ARCHITECTURES, ROOT

LARGEST = 250 * 1024 * 1024  # bytes, unzipped: Lambda's quota for function and layers together
_MACHINES = {"x86_64": 62, "arm64": 183}  # e_machine in an ELF header

pytestmark = pytest.mark.parametrize("architecture", ARCHITECTURES)


def machine_of(path):
    return struct.unpack("<H", path.read_bytes()[18:20])[0]


def test_every_binary_is_for_the_processor_that_the_functions_run_on(builds, architecture):
    binaries = [path for path in builds(architecture).rglob("*.so*") if path.read_bytes()[:4] == b"\x7fELF"]
    assert {path.parent.name for path in binaries} >= {"psycopg_binary", "pydantic_core"}
    assert {machine_of(path) for path in binaries} == {_MACHINES[architecture]}


def test_the_layer_holds_the_package_with_its_certificates(builds, architecture):
    built, source = builds(architecture) / "RdsiamLayer" / "python" / "rdsiam", ROOT / "layers" / "rdsiam" / "rdsiam"
    assert (built / "certs" / "global-bundle.pem").read_bytes() == (source / "certs" / "global-bundle.pem").read_bytes()
    for asset in (source / "report" / "assets").iterdir():
        assert (built / "report" / "assets" / asset.name).read_bytes() == asset.read_bytes()
    modules = {path.relative_to(source) for path in source.rglob("*.py")}
    assert {path.relative_to(built) for path in built.rglob("*.py")} == modules


def test_the_layer_holds_exactly_what_is_locked_and_no_tests_of_ours(builds, architecture):
    layer = builds(architecture) / "RdsiamLayer" / "python"
    lock = (ROOT / "layers" / "rdsiam" / "requirements.txt").read_text()
    locked = {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", lock, re.MULTILINE)}
    found = dict(path.name.removesuffix(".dist-info").rsplit("-", 1) for path in layer.glob("*.dist-info"))
    assert {normal(name): version for name, version in found.items()} == locked
    assert not [path for path in layer.iterdir() if path.name in {"tests", "test", "localcloud", "bench"}]
    assert not [path for path in (layer / "rdsiam").rglob("*") if "test" in path.name]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_functions_and_layer_fit_into_lambda_and_functions_hold_their_handler_alone(builds, architecture):
    built = builds(architecture)
    assert sum(path.stat().st_size for path in built.rglob("*") if path.is_file()) < LARGEST
    resources = read(built / "template.yaml")["Resources"]
    functions = [key for key, each in resources.items() if each["Type"] == "AWS::Serverless::Function"]
    assert functions
    for function in functions:
        served = {"openapi.json"} if function == "ReportsFunction" else set()
        assert {path.name for path in (built / function).iterdir()} == {"app.py"} | served
    recorded = tomllib.loads((built.parent / "build.toml").read_text())
    definitions = [*recorded["function_build_definitions"].values(), *recorded["layer_build_definitions"].values()]
    assert len(definitions) == len(functions) + 1
    assert {each["architecture"] for each in definitions} == {architecture}


def test_the_built_template_has_the_loops_and_is_the_template_that_localcloud_deploys(builds, architecture):
    built = builds(architecture) / "template.yaml"
    assert "Fn::ForEach::" in built.read_text()
    own, theirs = read(ROOT / "template.yaml")["Resources"], read(built)["Resources"]
    assert set(theirs) == set(own)
    packed = {"AWS::Serverless::Function", "AWS::Serverless::LayerVersion"}  # their properties name built artifacts
    assert {key: each for key, each in theirs.items() if each["Type"] not in packed} == {
        key: each for key, each in own.items() if each["Type"] not in packed
    }

"""What the AWS SAM CLI builds is what would be deployed: the layer holds the package and its drivers, for Lambda."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".venv" / "sam" / "bin" / "sam"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of `sam build`."""
    directory: Path = tmp_path_factory.mktemp("sam") / "build"
    # SAM looks for the runtime's own Python on the path.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [SAM, "build", "--build-dir", directory, "--no-cached"],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory


def test_functions_are_one_file_each(built):
    for function in ("OnboardFunction", "PolicyFunction", "VendFunction"):
        assert [path.name for path in (built / function).iterdir()] == ["app.py"]


def test_the_layer_holds_the_package_its_certificates_and_the_drivers(built):
    layer = built / "RdsiamLayer" / "python"
    for path in ("rdsiam/signer.py", "rdsiam/certs/global-bundle.pem", "psycopg", "pymysql", "aws_lambda_powertools"):
        assert (layer / path).exists(), path
    size = sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())
    assert size < 250 * 1024 * 1024, "Lambda unpacks at most 250 MB"


def test_the_functions_load_from_the_layer_alone(built):
    for function in ("OnboardFunction", "PolicyFunction", "VendFunction"):
        environment = {"PYTHONPATH": str(built / "RdsiamLayer" / "python"), "AWS_DEFAULT_REGION": "eu-west-1"}
        done = subprocess.run(
            [sys.executable, "-S", "-c", "import app; print(app.handler)"],
            cwd=built / function,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

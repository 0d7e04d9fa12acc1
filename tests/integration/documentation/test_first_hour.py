"""README and docs/try-it.md as a newcomer follows them: pasted into a plain bash and a plain zsh in a fresh account."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.documented import PAGES, ROOT, blocks_of
from tests.integration.documentation import test_pages
from tests.integration.documentation.pasting import paste, project_folder
from tests.terminal import Terminal, missing


@pytest.fixture
def project() -> Iterator[Path]:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    with tempfile.TemporaryDirectory(prefix="rdsiam-project-") as folder:
        Path(folder).chmod(0o711)  # the database servers run as nobody and have to pass through
        yield project_folder(Path(folder), {*(line.split("/")[0] for line in tracked.stdout.splitlines()), ".venv"})


def newcomer(home: Path) -> Mapping[str, str]:
    """Return the environment of a shell that has neither settings nor credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "LOCALCLOUD_CACHE", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), "LANG": "C.UTF-8"}


def skip_without(shell: str) -> None:
    if reason := missing(shell):
        pytest.skip(reason)


@pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=pytest.mark.exhaustive)])
def test_three_commands_lead_to_a_login_without_a_password(shell, project, tmp_path):
    skip_without(shell)
    with Terminal(shell, newcomer(tmp_path), project) as terminal:
        shown = paste(terminal, "README.md", lambda block: "make demo" not in block.text)
        terminal.type("kill %1; wait\n")
    assert re.search(r"app_service *\| shop_owner", shown), shown
    assert "X-Amz-Signature" not in shown
    assert "Password" not in shown


@pytest.mark.exhaustive
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_page_for_trying_it_runs_as_printed_and_cleans_up(shell, project, tmp_path, eventually):
    skip_without(shell)
    before = set(project.iterdir())
    with Terminal(shell, newcomer(tmp_path), project) as terminal:
        paste(terminal, "docs/try-it.md", lambda block: "make -s login" in block.text)
        directory = Path(json.loads((project / "cloud.json").read_text())["directory"])
        assert directory.is_dir()
        paste(terminal, "docs/try-it.md", lambda block: "make -s login" not in block.text)
    # `make` ends at once, and localcloud a moment later.
    eventually(lambda: not directory.exists())
    assert set(project.iterdir()) == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_beginning_of_the_page_about_localcloud_runs(shell, project, tmp_path):
    skip_without(shell)
    with Terminal(shell, newcomer(tmp_path), project) as terminal:
        paste(terminal, "docs/localcloud.md")
        terminal.type("kill %1; wait\n")


def test_each_page_with_blocks_that_are_run_is_pasted():
    pages = {block.page for page in PAGES for block in blocks_of(page) if block.mark == "run" and block.is_shell}
    names = {page.relative_to(ROOT).as_posix() for page in pages}
    assert names == {"README.md", "docs/try-it.md", "docs/localcloud.md", *test_pages.PAGES}


@pytest.mark.exhaustive
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_demo_runs(shell, project, tmp_path):
    skip_without(shell)
    with Terminal(shell, newcomer(tmp_path), project) as terminal:
        paste(terminal, "README.md", lambda block: "make demo" in block.text)


def test_a_missing_cloud_is_named(tmp_path):
    file = tmp_path / "cloud.json"
    keys = '{"access_key_id": "a", "secret_access_key": "b"}'
    file.write_text(
        f'{{"aws_endpoint_url": "http://127.0.0.1:9", "region": "eu-west-1", "account": "1", "credentials": {keys}}}\n'
    )
    done = subprocess.run(
        ["/usr/bin/env", "make", "-s", "login"], env={"PATH": os.environ["PATH"], "CLOUD": str(file)},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stdout == ""
    assert "nothing answers at http://127.0.0.1:9: run `make local >" in done.stderr

"""The terminal shows what somebody has to know or do; the log file has everything."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.logs import STDERR

PROGRAM = """
import logging, sys, warnings
from pathlib import Path
from localcloud.logs import log_to_file, log_to_terminal
log_to_terminal(Path(sys.argv[1]) if sys.argv[1] else None, verbose=sys.argv[3] == "verbose")
end = log_to_file(Path(sys.argv[2]))
logging.getLogger("localcloud.aws.deploy").info("not made by moto: Api")
logging.getLogger("localcloud.databases.token_verifier").info("login refused: user='app'")
logging.getLogger("localcloud.databases.servers.mysql_choice").warning("MariaDB stands in for MySQL")
logging.getLogger("localcloud.databases.rds.lives").error("database orders failed: disk full")
logging.getLogger("localcloud.aws.front").debug("connection ended early")
logging.getLogger("samtranslator.feature_toggle").warning("Feature not available")
warnings.warn("a module is old", DeprecationWarning, stacklevel=1)
warnings.warn("a module is odd")
end()
logging.getLogger("localcloud").warning("after the end")
"""


def run(tmp_path: Path, log: Path | str = "", verbose: str = "") -> tuple[list[str], str]:
    """Run the program; return the lines of its terminal and its log file."""
    file = tmp_path / "localcloud.log"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(log), str(file), verbose], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines(), file.read_text()


@pytest.mark.parametrize("log", ["", "some.log"])
def test_the_terminal_has_warnings_and_errors_of_localcloud_only(tmp_path, log):
    terminal, _ = run(tmp_path, log)

    assert terminal == [
        "localcloud: MariaDB stands in for MySQL",
        "localcloud: database orders failed: disk full",
        "localcloud: after the end",
    ]


def test_the_file_has_known_gaps_judged_logins_and_other_libraries(tmp_path):
    _, file = run(tmp_path)

    for text in ("not made by moto: Api", "login refused", "stands in", "disk full", "Feature not", "a module is odd"):
        assert text in file
    assert "connection ended early" not in file
    assert "after the end" not in file


@pytest.mark.parametrize(("log", "verbose"), [(STDERR, ""), ("", "verbose")])
def test_everything_goes_to_stderr_if_that_is_asked_for(tmp_path, log, verbose):
    terminal = "\n".join(run(tmp_path, log, verbose)[0])

    assert "not made by moto: Api" in terminal
    assert "login refused" in terminal
    assert ("connection ended early" in terminal) == bool(verbose)
    assert logging.getLevelName(logging.INFO) in terminal

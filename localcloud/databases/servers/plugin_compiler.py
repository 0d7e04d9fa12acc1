"""The plugin of IAM authentication for MariaDB and MySQL, compiled on this machine."""

import shutil
import subprocess
from pathlib import Path

from localcloud.core.tails import last_lines
from localcloud.databases.servers.server import ServerFailed

PLUGIN = "AWSAuthenticationPlugin"
PLUGIN_SOURCE = Path(__file__).with_name("aws_authentication_plugin.c")


def compile_plugin(folder: Path, log: Path, *options: str) -> None:
    """Compile the plugin of IAM authentication into `folder`.

    :raises ServerFailed: there is no compiler, or the source does not compile.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ServerFailed("a C compiler is missing: apt-get install gcc libc6-dev")
    plugin = folder / f"{PLUGIN}.so"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        command = [
            compiler,
            "-O1",
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            *options,
            "-o",
            str(plugin),
            str(PLUGIN_SOURCE),
        ]
        if subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL).returncode != 0:
            raise ServerFailed(f"the authentication plugin does not compile{last_lines(log)}")
    plugin.chmod(0o755)

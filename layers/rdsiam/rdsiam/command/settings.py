"""Settings: from flags, the environment, a trusted ./rdsiam.toml, the user's file, the outputs of the stack."""

import contextlib
import os
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from rdsiam.command import trust
from rdsiam.command.errors import NotFound
from rdsiam.command.output import progress
from rdsiam.errors import RdsiamError

DEFAULT_STACK = "rdsiam"


@dataclass(frozen=True)
class Setting:
    """A value, and where it was found."""

    value: str
    origin: str


def user_file() -> Path:
    """Return the user's own file."""
    return trust.directory() / "config.toml"


class Settings:
    """Looks settings up: flags > RDSIAM_* > a trusted ./rdsiam.toml > the user's file > the stack's outputs.

    :param flags: those that were given, by setting's name.
    :param outputs: fetches the outputs of a stack by its name; called when nothing nearer has the setting.
    """

    def __init__(self, flags: Mapping[str, str | None], outputs: Callable[[str], Mapping[str, str]]) -> None:
        self._flags = {name: value for name, value in flags.items() if value is not None}
        self._outputs = outputs

    def get(self, name: str, output: str | None = None) -> Setting:
        """Return a setting.

        :param name: as in the files, such as `audit_function`; the environment has it as RDSIAM_AUDIT_FUNCTION.
        :param output: the stack's output that has it if nothing nearer does.
        :raises NotFound: nothing has it; says what to set.
        """
        found = self._near(name)
        if found is not None:
            return found
        if output is not None:
            stack = (self._near("stack") or Setting(DEFAULT_STACK, "default")).value
            outputs = self._outputs(stack)
            if output in outputs:
                return Setting(outputs[output], f"output {output} of stack {stack}")
            raise NotFound(
                f"stack {stack} has no output {output}: name your stack with --stack or RDSIAM_STACK, or set "
                f"RDSIAM_{name.upper()}"
            )
        raise NotFound(f"{name} is not set: give --{name.replace('_', '-')} or RDSIAM_{name.upper()}")

    def _near(self, name: str) -> Setting | None:
        if name in self._flags:
            return Setting(self._flags[name], f"--{name.replace('_', '-')}")
        variable = f"RDSIAM_{name.upper()}"
        if os.environ.get(variable):
            return Setting(os.environ[variable], variable)
        for path, values in self._files:
            value = values.get(name)
            if isinstance(value, str) and value:
                return Setting(value, path)
        return None

    @cached_property
    def _files(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Name and content of the files that count, nearest first."""
        result: list[tuple[str, Mapping[str, Any]]] = []
        try:
            local = trust.local_file(Path(trust.NAME))
        except RdsiamError as error:
            local = None
            _say_once(f"{error}; it is ignored")
        if local is not None and local.trusted:
            result.append((str(local.path), parsed(str(local.path), local.content)))
        elif local is not None:
            command = shlex.join(["rdsiam", "config", "trust", str(local.path)])
            _say_once(f"{local.path} is not trusted, or has changed since: it is ignored. Read it, then run: {command}")
        path = user_file()
        with contextlib.suppress(FileNotFoundError):
            result.append((str(path), parsed(str(path), path.read_bytes())))
        return result


@cache
def _say_once(line: str) -> None:
    progress(line)


def parsed(name: str, content: bytes) -> Mapping[str, Any]:
    """Return the settings of a file.

    :raises NotFound: it is not TOML.
    """
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Without the cause: its text may hold the line that is wrong, and that line a secret.
        line = f" ({error})" if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise NotFound(f"{name} is not TOML{line}") from None

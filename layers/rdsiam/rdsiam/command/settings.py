"""Where a setting's value comes from: flag, environment, ./rdsiam.toml, the user's file, the stack's outputs."""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdsiam.command.errors import NotFound

DEFAULT_STACK = "rdsiam"


@dataclass(frozen=True)
class Setting:
    """A value, and where it was found."""

    value: str
    origin: str


def files() -> list[Path]:
    """Return the files that settings are read from, nearest first."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [Path("rdsiam.toml"), Path(base) / "rdsiam" / "config.toml"]


class Settings:
    """Looks settings up: flags > RDSIAM_* > ./rdsiam.toml > the user's file > the stack's outputs.

    :param flags: those that were given, by setting's name.
    :param outputs: fetches the outputs of a stack by its name; called when nothing nearer has the setting.
    """

    def __init__(self, flags: Mapping[str, str | None], outputs: Callable[[str], Mapping[str, str]]) -> None:
        self._flags = {name: value for name, value in flags.items() if value is not None}
        self._outputs = outputs
        self._read: dict[Path, Mapping[str, Any]] = {}

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
        for path in files():
            value = self._load(path).get(name)
            if isinstance(value, str) and value:
                return Setting(value, str(path))
        return None

    def _load(self, path: Path) -> Mapping[str, Any]:
        if path not in self._read:
            try:
                self._read[path] = tomllib.loads(path.read_text())
            except FileNotFoundError:
                self._read[path] = {}
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                # Without the cause: its text may hold the line that is wrong, and that line a secret.
                line = f" ({error})" if isinstance(error, tomllib.TOMLDecodeError) else ""
                raise NotFound(f"{path} is not TOML{line}") from None
        return self._read[path]

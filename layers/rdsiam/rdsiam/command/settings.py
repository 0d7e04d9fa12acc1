"""Settings from flags, the environment, a trusted ./rdsiam.toml, the user's file, and the outputs of the stack."""

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
from rdsiam.command.errors import Denied, NotFound
from rdsiam.command.output import progress
from rdsiam.core.similar import did_you_mean
from rdsiam.errors import RdsiamError

DEFAULT_STACK = "rdsiam"
#: Setting → output of the stack that has it; None for the stack itself.
SETTINGS: Mapping[str, str | None] = {
    "stack": None,
    "api_url": "ApiUrl",
    "access_bucket": "AccessBucket",
    "audit_function": "AuditFunctionAlias",
    "inventory_table": "InventoryTable",
    "migrate_function": "MigrateFunctionAlias",
    "onboard_function": "OnboardFunctionAlias",
    "report_bucket": "ReportBucket",
    "secrets_function": "SecretsFunction",
}


@dataclass(frozen=True)
class Setting:
    """A value and its origin."""

    value: str
    origin: str


def user_file() -> Path:
    """Return the path of the user's own file."""
    return trust.directory() / "config.toml"


class Settings:
    """Looks settings up: flags > RDSIAM_* > a trusted ./rdsiam.toml > the user's file > the stack's outputs.

    :param flags: setting → value of its option; None if the option is not given.
    :param outputs: fetches the outputs of a stack; called only if no nearer place has the setting.
    """

    def __init__(self, flags: Mapping[str, str | None], outputs: Callable[[str], Mapping[str, str]]) -> None:
        self._flags = {name: value for name, value in flags.items() if value is not None}
        self._outputs = outputs

    def get(self, name: str) -> Setting:
        """Return a setting.

        :param name: a key of `SETTINGS`; the environment has it as RDSIAM_AUDIT_FUNCTION.
        :raises NotFound: no place has it; the message says what to set.
        """
        near = self._near(name)
        if near is not None:
            return near
        output = SETTINGS[name]
        if output is None:
            return Setting(DEFAULT_STACK, "default")
        stack = self.get("stack").value
        variable = f"RDSIAM_{name.upper()}"
        try:
            outputs = self._outputs(stack)
        except Denied as denied:
            # Denied before anything else was asked: this caller may still use what the setting names.
            remedy = f"ask an operator for the value of {variable}, or for cloudformation:DescribeStacks"
            if denied.remedy:
                raise
            raise Denied(f"{name} is not set, and {output} not read: {denied.problem}", remedy) from None
        if output not in outputs:
            raise NotFound(
                f"stack {stack}: no output {output}",
                f"name your stack with --stack or RDSIAM_STACK, or set {variable}",
            )
        return Setting(outputs[output], f"output {output} of stack {stack}")

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
        """Path and content of the files that apply, nearest first."""
        result: list[tuple[str, Mapping[str, Any]]] = []
        try:
            local = trust.local_file(Path(trust.NAME))
        except RdsiamError as error:
            local = None
            _say_once(f"{error}; the file is ignored")
        if local is not None and local.trusted:
            result.append((str(local.path), parsed(str(local.path), local.content)))
        elif local is not None:
            command = shlex.join(["rdsiam", "config", "trust", str(local.path)])
            _say_once(
                f"{local.path} is not trusted, or has changed since: the file is ignored. Read it, then run: {command}"
            )
        path = user_file()
        with contextlib.suppress(FileNotFoundError):
            values = parsed(str(path), path.read_bytes())
            for name, value in values.items():
                if name not in SETTINGS or not isinstance(value, str):
                    advice = "" if name in SETTINGS else did_you_mean(name, SETTINGS)
                    problem = f"{path}: {name} is no setting of rdsiam with a text as its value: ignored"
                    _say_once(f"{problem}; {advice}" if advice else problem)
            result.append((str(path), values))
        return result


@cache
def _say_once(line: str) -> None:
    progress(line)


def parsed(name: str, content: bytes) -> Mapping[str, Any]:
    """Return the settings of a file.

    :raises NotFound: the file is not TOML.
    """
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Raised without its cause: that text may hold the wrong line, and the line a secret.
        line = f" ({error})" if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise NotFound(f"{name} is not TOML{line}") from None

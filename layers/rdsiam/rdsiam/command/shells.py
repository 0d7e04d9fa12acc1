"""Assignments of variables, quoted for each shell."""

from collections.abc import Iterable, Mapping
from typing import Literal

Shell = Literal["bash", "zsh", "fish", "pwsh"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish", "pwsh")


def assign(shell: Shell, values: Mapping[str, str]) -> str:
    """Return lines that export the variables."""
    return "".join(f"{_assignment(shell, name, value)}\n" for name, value in values.items())


def unset(shell: Shell, names: Iterable[str]) -> str:
    """Return lines that unset the variables; a missing variable is no error."""
    form = {"fish": "set -e {0}", "pwsh": "Remove-Item -ErrorAction Ignore Env:{0}"}.get(shell, "unset {0}")
    return "".join(f"{form.format(name)}\n" for name in names)


def _assignment(shell: Shell, name: str, value: str) -> str:
    if shell == "fish":
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{quoted}'"
    if shell == "pwsh":
        # PowerShell also takes typographic quotes for quotes; a doubled quote stands for itself.
        quoted = "".join(c * 2 if c in "'\u2018\u2019\u201a\u201b" else c for c in value)
        return f"$Env:{name} = '{quoted}'"
    quoted = value.replace("'", "'\\''")
    return f"export {name}='{quoted}'"

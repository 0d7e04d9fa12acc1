"""The installation of rdsiam that a command works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rdsiam.command.api import Api
from rdsiam.command.aws import Aws
from rdsiam.command.executions import run
from rdsiam.command.long_lists import fetch
from rdsiam.command.settings import Settings


@dataclass(frozen=True)
class Installation:
    """An installation of rdsiam, reached with a profile in a region. Nothing is looked up before it is needed.

    :ivar flags: settings given as options; None if an option is not given.
    """

    flags: Mapping[str, str | None]
    profile: str | None
    region: str | None

    @cached_property
    def aws(self) -> Aws:
        """AWS as the caller reaches it."""
        return Aws(self.profile, self.region)

    @cached_property
    def settings(self) -> Settings:
        """The settings that apply."""
        return Settings(self.flags, lambda stack: self.aws.outputs(stack))

    @cached_property
    def api(self) -> Api:
        """The HTTP API."""
        return Api(self.settings.get("api_url").value, self.aws)

    def run(
        self,
        function: str,
        payload: Mapping[str, Any],
        kind: str,
        progress: Callable[[str], None],
        until: str | None = None,
        everything: bool = False,
    ) -> dict[str, Any]:
        """Run a durable function and return its answer, as `executions.run` does.

        :param function: the setting that names it, such as `onboard_function`.
        :param everything: fetch the lists that the answer had no room for.
        """
        name = self.settings.get(function).value
        answer = run(self.aws.client("lambda"), name, payload, kind, progress, until)
        return fetch(self.aws, answer) if everything else answer

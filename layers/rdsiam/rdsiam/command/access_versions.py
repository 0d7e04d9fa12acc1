"""Versions of access.yaml in its bucket: the published one, earlier ones, the applied one, and a new one."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.access.model import AccessFile, parse
from rdsiam.access.store import CONFIRMED
from rdsiam.command.aws import translate_errors
from rdsiam.command.errors import CommandError, NotFound, TryAgain, Usage
from rdsiam.command.installation import Installation
from rdsiam.command.output import progress, visible
from rdsiam.core import times
from rdsiam.errors import AccessFileInvalid
from rdsiam.state.applied_access import AppliedAccess

KEY = "access.yaml"
#: Characters of a version's id that name it, if no other version begins with them.
_SHORTEST = 4


@dataclass(frozen=True)
class Source:
    """A text of access.yaml and its name in messages: a file, or a version of the published one.

    :ivar name: the path that was given, or `version ID`.
    """

    name: str
    text: str

    def parsed(self) -> AccessFile:
        """Return the file.

        :raises AccessFileInvalid: naming the source.
        """
        try:
            return parse(self.text)
        except AccessFileInvalid as error:
            raise AccessFileInvalid(error.problems, error.version, self.name) from None


@dataclass(frozen=True)
class Published:
    """A version in the bucket.

    :ivar access: None if there is none, or if it is invalid.
    :ivar etag: None if nothing has been published.
    """

    source: Source
    access: AccessFile | None = None
    version: str = ""
    etag: str | None = None
    confirmed: bool = False


@dataclass(frozen=True)
class Version:
    """A version as S3 lists it.

    :ivar published: RFC 3339.
    :ivar deleted: it is the mark of a deletion.
    """

    id: str
    published: str
    latest: bool
    deleted: bool


def name_of(file: Path) -> str:
    """Return the name of a file in messages."""
    return "standard input" if str(file) == "-" else str(file)


def read(file: Path) -> Source:
    """Return the text of a file, of standard input for `-`."""
    name = name_of(file)
    if str(file) == "-" and sys.stdin is None:
        raise NotFound(f"{name} is closed", "name a file")
    try:
        return Source(name, sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise AccessFileInvalid(["line 1: the file is not UTF-8"], name=name) from None
    except OSError as error:
        raise NotFound(f"{name}: {error.strerror}") from None


def difference(old: Source, new: Source) -> str:
    """Return the lines by which two texts differ; empty if they don't."""
    lines = unified_diff(old.text.splitlines(), new.text.splitlines(), old.name, new.name, lineterm="")
    return "".join(f"{visible(line)}\n" for line in lines)


class Bucket:
    """The bucket of access.yaml."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.name = installation.settings.get("access_bucket").value
        self.address = f"s3://{self.name}/{KEY}"

    @cached_property
    def _s3(self) -> Any:
        return self._installation.aws.client("s3")

    def published(self) -> Published:
        """Return the published file; empty if none has been published yet."""
        try:
            return self._get(f"published {KEY}")
        except NotFound:
            progress(f"no {KEY} has been published in {self.name} yet")
            return Published(Source(f"published {KEY}", ""))

    def version(self, name: str) -> Published:
        """Return a version.

        :param name: its id, or the beginning of its id.
        :raises NotFound: no version has that id.
        :raises Usage: several ids begin so, or that version is a deletion.
        """
        found = [each for each in self.versions() if each.id.startswith(name)]
        exact = [each for each in found if each.id == name] or found
        if not exact or (len(name) < _SHORTEST and exact[0].id != name):
            raise NotFound(f"{self.address} has no version {name}", "see rdsiam access history")
        if len(exact) > 1:
            raise Usage(f"version {name}: ambiguous, as {len(exact)} ids begin so", "name more of the id")
        if exact[0].deleted:
            raise Usage(f"version {name}: {KEY} was deleted then")
        return self.exactly(exact[0].id)

    def exactly(self, version: str) -> Published:
        """Return the version of that id.

        :raises CommandError: there is none.
        """
        return self._get(f"version {version}", VersionId=version)

    def versions(self) -> Iterator[Version]:
        """Yield all versions, the newest first."""
        pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=KEY)
        with translate_errors(f"the versions of {self.address}"):
            for page in pages:
                marks = page.get("DeleteMarkers", [])
                listed = [(each, False) for each in page.get("Versions", [])] + [(each, True) for each in marks]
                listed.sort(key=lambda pair: (pair[0]["IsLatest"], pair[0]["LastModified"]), reverse=True)
                for each, deleted in listed:
                    if each["Key"] == KEY:
                        published = times.text(each["LastModified"])
                        yield Version(each["VersionId"], published, each["IsLatest"], deleted)

    def is_confirmed(self, version: str) -> bool:
        """Return whether its publisher has confirmed a version."""
        with translate_errors(self.address):
            answer = self._s3.head_object(Bucket=self.name, Key=KEY, VersionId=version)
        return _is_confirmed(answer)

    def applied(self) -> str | None:
        """Return the version that the last reconcile applied; None if there is none, or if it can't be read."""
        try:
            table = self._installation.settings.get("inventory_table").value
            with translate_errors(table):
                return AppliedAccess(self._installation.aws.client("dynamodb"), table).version()
        except CommandError:
            return None

    def put(self, source: Source, replaced: Published, confirm: bool) -> str:
        """Publish a text in place of a version, and return its version.

        :raises TryAgain: another version was published meanwhile.
        """
        with translate_errors(self.address):
            try:
                answer = self._s3.put_object(
                    Bucket=self.name,
                    Key=KEY,
                    Body=source.text.encode(),
                    ContentType="application/yaml",
                    Metadata=dict(CONFIRMED) if confirm else {},
                    **condition(replaced),
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in {"PreconditionFailed", "ConditionalRequestConflict", "412"}:
                    raise TryAgain(
                        f"{KEY} was published meanwhile", "see the difference with rdsiam access plan"
                    ) from None
                raise
        return str(answer.get("VersionId") or answer["ETag"])

    def _get(self, name: str, **asked: str) -> Published:
        with translate_errors(self.address):
            answer = self._s3.get_object(Bucket=self.name, Key=KEY, **asked)
            content: bytes = answer["Body"].read()
        try:
            source = Source(name, content.decode())
        except UnicodeDecodeError:
            raise Usage(f"{self.address} is not text") from None
        try:
            access = source.parsed()
        except AccessFileInvalid:
            progress(f"the {name} is invalid: it allows nobody to log in")
            access = None
        return Published(source, access, answer.get("VersionId", ""), answer["ETag"], _is_confirmed(answer))


def condition(replaced: Published) -> dict[str, str]:
    """Return the condition under which a version is replaced: it is still the published one."""
    return {"IfMatch": replaced.etag} if replaced.etag else {"IfNoneMatch": "*"}


def _is_confirmed(answer: Mapping[str, Any]) -> bool:
    return CONFIRMED.items() <= dict(answer.get("Metadata", {})).items()


def rules_of_reconciles(installation: Installation) -> Sequence[tuple[str, bool]] | None:
    """Return the rules of EventBridge that start a reconcile, and whether each is on; None if that can't be read."""
    try:
        stack = installation.settings.get("stack").value
        with translate_errors("the rules of EventBridge"):
            pages = installation.aws.client("events").get_paginator("list_rules").paginate(NamePrefix=f"{stack}-")
            rules = [rule for page in pages for rule in page["Rules"]]
    except CommandError:
        return None
    own = [rule for rule in rules if "AccessChanged" in rule["Name"] or rule["Name"] == f"{stack}-reconcile"]
    return [(rule["Name"], rule["State"] != "DISABLED") for rule in own]

"""The proxy's tokens: from the API, or signed with the caller's own credentials."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

from rdsiam.aws.rds import FAMILIES
from rdsiam.command.api import Api
from rdsiam.command.described import describe_at, identifier_and_endpoint
from rdsiam.command.errors import CredentialsExpired, Denied, NotFound, TryAgain
from rdsiam.command.installation import Installation
from rdsiam.command.listed import Listed, choose, find
from rdsiam.command.login import LoginOptions, check_one_endpoint, login_token
from rdsiam.command.renewing_aws import RenewingAws
from rdsiam.errors import RdsiamError
from rdsiam.proxy.contracts import EngineName, Listener, Token, UpstreamFailed
from rdsiam.proxy.sentences import failed, sentence
from rdsiam.proxy.token_sources import Access, Target, TokenSource, UpstreamBusy
from rdsiam.signer import Credentials, TokenSigner

#: Codes of denials that end access; others are answered by giving a reason, signing, or trying again.
_ENDED = {"not-allowed", "user-revoked"}
#: Seconds for which upstreams share a list of databases.
_LIST_SECONDS = 5
_UNDESCRIBED = "grant rds:DescribeDBClusters and rds:DescribeDBInstances to your role"
_ENGINES: Mapping[str, EngineName] = {"postgres": "postgres", "mysql": "mysql"}


class LastingInstallation(Installation):
    """An installation for a command that runs for days: credentials are renewed, connections to the API kept."""

    @cached_property
    def aws(self) -> RenewingAws:
        """AWS as the caller reaches it."""
        return RenewingAws(self.profile, self.region)

    @cached_property
    def api(self) -> Api:
        """The HTTP API."""
        return Api(self.settings.get("api_url").value, self.aws, lasting=True)

    @cached_property
    def listing(self) -> "Listing":
        """The databases that the caller may log in to."""
        return Listing(lambda: self.api.databases())


class Listing:
    """The API's list of databases, asked once for all upstreams that need it at the same time. Thread-safe."""

    def __init__(
        self, ask: Callable[[], list[dict[str, Any]]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._listed: tuple[float, list[dict[str, Any]]] | None = None

    def databases(self) -> list[dict[str, Any]]:
        """Return the databases that the caller may log in to, at most some seconds old."""
        with self._lock:
            now = self._monotonic()
            if self._listed is None or now - self._listed[0] >= _LIST_SECONDS:
                self._listed = now, self._ask()
            return self._listed[1]


def source(
    installation: LastingInstallation, listener: Listener, local: bool, reason: str | None
) -> tuple[TokenSource, Access | None]:
    """Return the source of a listener's tokens, and the API's decisions about its database; None without an API.

    :param reason: for each token, if access.yaml requires one.
    """
    if not local:
        api = ApiTokens(installation, listener, reason)
        return api, api
    try:
        installation.settings.get("api_url")
    except (Denied, NotFound, TryAgain):
        return OwnTokens(installation, listener), None
    access = OwnAccess(ApiTokens(installation, listener, reason))
    return OwnTokens(installation, listener, access), access


class ApiTokens:
    """Tokens from the API.

    :ivar arn: of the database; empty until it is known.
    """

    def __init__(self, installation: LastingInstallation, listener: Listener, reason: str | None) -> None:
        self._installation = installation
        self._listener = listener
        self._reason = reason
        self.arn = ""
        self._endpoint: str | None = None
        self._last_user = ""

    def target(self) -> Target:
        """Look the database up in the API's list; a user of all clients has to get a token.

        The list has the endpoint as it was when the database was last onboarded, a token has the present one.
        """
        user = self._listener.user
        with _translate(self._installation.aws):
            try:
                listed = self._listed()
            except NotFound:
                if user is not None:  # the denial may say why it isn't listed
                    login_token(self._installation, self._listener.database, self._options(user))
                raise
            self.arn, self._endpoint = listed.arn, listed.endpoint
            name = str(listed.database["identifier"])
            engine = FAMILIES.get(str(listed.database.get("engine")))
            if engine is None:
                raise NotFound(f"{name}: the API names an engine that this version does not know")
            host, port = listed.address
        target = Target(name, host, port, _ENGINES[engine], frozenset(listed.database["users"]))
        if user is not None:
            return _moved(target, self.token(target, user))
        if self._last_user:
            with suppress(UpstreamFailed):  # others may still be allowed
                return _moved(target, self.token(target, self._last_user))
        return target

    def ready(self, target: Target, user: str) -> None:
        """Return no token: the API has to be asked for each."""

    def token(self, target: Target, user: str) -> Token:
        """Return a token from the API."""
        with _translate(self._installation.aws, self.arn, target.name):
            answer = login_token(self._installation, self.arn, self._options(user))
        self._last_user = user
        return Token(answer.token, answer.host, answer.port, answer.user)

    def users(self) -> frozenset[str]:
        """Return the users of this database in the API's list; none if the list doesn't have it."""
        with _translate(self._installation.aws):
            arn = self.arn or self._listed().arn
            listed = self._installation.listing.databases()
        return frozenset(user for database in listed if database["arn"] == arn for user in database["users"])

    def ended(self, user: str) -> UpstreamFailed | None:
        """Return the denial of a token, if it says that the caller may no longer be this user."""
        try:
            with _translate(self._installation.aws, self.arn):
                arn = self.arn or self._listed().arn
                login_token(self._installation, arn, self._options(user))
        except UpstreamBusy:
            raise
        except UpstreamFailed as error:
            if error.code in _ENDED:
                return error
            if error.code not in ("reason-required", "signs-itself"):
                raise
        return None

    def _options(self, user: str) -> LoginOptions:
        return LoginOptions(user, local=False, reason=self._reason, endpoint=self._endpoint)

    def _listed(self) -> Listed:
        """Return the database and endpoint that the listener names: by endpoint, or by a host name as the database."""
        name, host, endpoint = _named(self._listener)
        databases = self._installation.listing.databases()
        listed = find(databases, host or name) or Listed(choose(databases, name), host)
        return listed if endpoint is None else replace(listed, endpoint=endpoint)


class OwnAccess:
    """Decisions of the API about tokens that the caller signs.

    IAM decides what the caller may sign. So a user's access ends only if the user is revoked, or if the API listed the
    user as the caller's before and no longer does.
    """

    def __init__(self, api: ApiTokens) -> None:
        self._api = api
        self._known: set[str] = set()

    def name(self, arn: str) -> None:
        """Take the database's ARN: the API doesn't list databases that the caller's own credentials sign for."""
        self._api.arn = arn

    def users(self) -> frozenset[str]:
        """Return no user: users that the caller signs for are not in the API's list."""
        return frozenset()

    def ended(self, user: str) -> UpstreamFailed | None:
        """Return the denial; None if the caller may be this user, or if the API never knew the caller as this user."""
        denial = self._api.ended(user)
        if denial is None or denial.code == "user-revoked":
            self._known.add(user)
        return denial if user in self._known else None


class OwnTokens:
    """Tokens that are signed with the caller's own credentials.

    :param access: learns the database's ARN.
    """

    def __init__(self, installation: LastingInstallation, listener: Listener, access: OwnAccess | None = None) -> None:
        self._access = access
        self._installation = installation
        self._listener = listener
        self._region = ""
        self._signer: tuple[Credentials, TokenSigner] | None = None

    def target(self) -> Target:
        """Look the database up in RDS."""
        aws = self._installation.aws
        with _translate(aws):
            aws.credentials()
            try:
                database = describe_at(aws, *_named(self._listener))
            except Denied as denied:
                raise Denied(denied.problem, denied.remedy or _UNDESCRIBED) from None
            endpoint, port = database.endpoint
        self._region = database.region
        if self._access is not None:
            self._access.name(database.arn)
        return Target(database.identifier, endpoint, port, _ENGINES[database.family])

    def ready(self, target: Target, user: str) -> Token | None:
        """Return a token if the credentials need no look: signing takes microseconds."""
        credentials = self._installation.aws.current()
        return None if credentials is None else self._signed(credentials, target, user)

    def token(self, target: Target, user: str) -> Token:
        """Return a token, after the credentials were looked at."""
        with _translate(self._installation.aws):
            credentials, _ = self._installation.aws.credentials()
        return self._signed(credentials, target, user)

    def _signed(self, credentials: Credentials, target: Target, user: str) -> Token:
        signer = self._signer
        if signer is None or signer[0] != credentials:
            # Threads may race here: each goes on with a whole signer, and one of them is kept.
            signer = self._signer = (credentials, TokenSigner(credentials, self._region))
        with _translate(self._installation.aws):
            return Token(signer[1].token(target.host, target.port, user), target.host, target.port, user)


def _moved(target: Target, token: Token) -> Target:
    return replace(target, host=token.host, port=token.port)


def _named(listener: Listener) -> tuple[str, str | None, str | None]:
    """Return identifier or ARN, the host if that names the database, and the endpoint if one is named beside it."""
    name, host = identifier_and_endpoint(listener.database)
    given = LoginOptions(None, local=False, reason=None, endpoint=listener.endpoint)
    check_one_endpoint(listener.database, host, given)
    return name, host, listener.endpoint


@contextmanager
def _translate(aws: RenewingAws, arn: str = "", name: str = "") -> Iterator[None]:
    """Turn errors of the command into the proxy's, with problem and remedy in one sentence.

    :param name: of the database, which messages have in place of the ARN.
    """
    try:
        yield
    except TryAgain as error:
        raise UpstreamBusy(sentence(error.problem or str(error), error.remedy), error.code) from None
    except RdsiamError as error:
        if isinstance(error, CredentialsExpired):
            aws.forget()
        elif error.code == Denied.code:  # API Gateway says no more about expired credentials
            aws.forget(even_recent=False)
        problem = error.problem or str(error)
        if arn and name:
            problem = re.sub(rf"{re.escape(arn)}(?![\w-])", lambda _: name, problem)
        raise failed(problem, error.remedy, error.code) from None

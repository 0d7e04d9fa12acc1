"""From what was read of one database to what is wrong with it; no I/O, the same facts give the same findings.

    what RDS tells → server → each user → groups → declared and missing → secrets → suppressed where accepted

One problem is one finding: an account that nobody declared has one, whatever else is wrong with it, since the same
steps mend all of that. Accounts that nobody can log in as have none, nor have the master (but for losing its
password), rdsiam's own users, and users by whose password a classic proxy logs in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from rdsiam.access.model import AccessFile, DeclaredUser
from rdsiam.access.pending import pending
from rdsiam.access.selection import NOTHING, SelectedDatabase
from rdsiam.audit.evaluate_secrets import not_as_recorded, not_rotating, of_secrets
from rdsiam.audit.suppressions import suppress
from rdsiam.aws.rds import Database, Proxy
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.engines.remediation import Privileges
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import SEVERITIES, Finding
from rdsiam.findings.kind import Case
from rdsiam.state.escalations import Examined
from rdsiam.state.inventory import Ownership, SecretRecord

_IAM_FLAG = "IAMDatabaseAuthenticationEnabled"
#: So long a suppression holds that a remedy proposes.
_ACCEPTED = timedelta(days=180)


def evaluate_database(
    database: SelectedDatabase,
    facts: ServerFacts | Unreadable,
    access: AccessFile,
    accounts: Mapping[str, Ownership],
    proxies: Sequence[Proxy],
    proxy_users: frozenset[str],
    secrets: Sequence[SecretFacts],
    at: datetime,
    leaving: Mapping[str, str] | None = None,
    revoked: Mapping[str, str] | None = None,
    recorded: Mapping[str, SecretRecord] | None = None,
) -> tuple[Finding, ...]:
    """Return all that is wrong with a database, worst first; what access.yaml accepts is marked so.

    :param facts: of a replica or a proxy it does not matter: they have no users of their own.
    :param accounts: from the inventory: what rdsiam made in it, or took over.
    :param proxies: all proxies; those that have it as a target count.
    :param proxy_users: the users as which classic proxies log in to it.
    :param secrets: all secrets that could be read; those that log in to it count.
    :param at: the time of the audit, with a zone.
    :param leaving: users whose logins are not gone yet → why, from the inventory.
    :param revoked: users that an operator has revoked.
    :param recorded: user → the secret that the inventory records for it on this database.
    """
    found = [*_of_rds(database, proxies), *_pending(database, access)]
    own_secrets = [one for one in secrets if one.is_of(database.arn, database.identifier, database.host, database.port)]
    with_users = database.kind != "proxy" and database.replica_of is None
    if with_users and isinstance(facts, ServerFacts):
        judge = _Server(database, facts, access, accounts, proxies, proxy_users, own_secrets, at)
        found += judge.findings()
    else:
        found += of_secrets(database, own_secrets, frozenset(), proxies, at)
        if with_users and isinstance(facts, Unreadable) and database.iam_enabled:
            found.append(_unread(database, facts, _is_declared(database, access)))
    not_removed = [*_not_removed(database, facts, accounts, leaving or {}, revoked or {})]
    late = {one.user for one in not_removed}
    # The same steps end both.
    found = [one for one in found if one.kind != "undeclared-user" or one.user not in late]
    found += not_removed
    found += not_rotating(database, secrets, recorded or {}, access)
    found += not_as_recorded(database, secrets, recorded or {})
    found.sort(key=lambda one: (SEVERITIES.index(one.severity), one.kind, one.user or "", one.id))
    return suppress(found, {database.arn: database}, access, at)


def _of_rds(database: Database, proxies: Sequence[Proxy]) -> Iterator[Finding]:
    """Judge what Describe tells."""
    if database.kind == "proxy":
        return
    public = ("public",) if database.public else ()
    subject = (database.resource_id,)
    if _IAM_FLAG in database.pending:
        evidence = {"enabled": database.iam_enabled, "pending": list(database.pending)}
        yield KINDS["iam-authentication-pending"].finding(Case(database, None, subject, evidence))
    elif not database.iam_enabled:
        off = {"status": database.status, "exposure": list(public)}
        yield KINDS["iam-authentication-off"].finding(Case(database, None, subject, off, exposure=public))
    if database.instance_class and database.instance_class.endswith(".micro") and database.iam_enabled:
        yield KINDS["instance-too-small"].finding(Case(database, None, subject, {"class": database.instance_class}))
    for proxy in proxies:
        if database.identifier in proxy.targets and not proxy.tls_required:
            about = {"proxy": proxy.name, "classic": proxy.classic}
            yield KINDS["proxy-without-tls"].finding(Case(database, None, (*subject, proxy.resource_id), about))


def _pending(database: SelectedDatabase, access: AccessFile) -> Iterator[Finding]:
    """Judge whether access.yaml would give more for the current attributes than for the recorded ones."""
    try:
        waiting = pending(access, database)
    except AccessFileInvalid:
        return  # that has a finding of its own
    if waiting is not None:
        evidence = {
            "changed": waiting.changed,
            "entries": list(waiting.entries),
            "gains": [str(gain) for gain in waiting.gains],
        }
        same = database.recorded != NOTHING
        more = {"recorded": database.recorded, "same": same}
        yield KINDS["gains-need-confirmation"].finding(
            Case(database, None, (database.resource_id,), evidence, more=more)
        )


def _not_removed(
    database: Database,
    facts: ServerFacts | Unreadable,
    accounts: Mapping[str, Ownership],
    leaving: Mapping[str, str],
    revoked: Mapping[str, str],
) -> Iterator[Finding]:
    """Judge who should be gone: users that could not be removed, and revoked ones that can log in."""
    logins: dict[str, list[AccountFacts]] = {}
    if isinstance(facts, ServerFacts):
        for one in facts.accounts:
            if one.login and not one.unusable:
                logins.setdefault(one.name, []).append(one)
    back = {name: "it can log in though it was revoked" for name in revoked if name in logins and name in accounts}
    for name, reason in sorted((back | dict(leaving)).items()):
        login = name in logins if isinstance(facts, ServerFacts) else None
        evidence = {"reason": reason, "login": login, "revoked": name in revoked}
        there = tuple(logins.get(name, ()))
        yield KINDS["login-not-removed"].finding(
            Case(database, name, (database.resource_id, name), evidence, accounts=there)
        )


def _is_declared(database: SelectedDatabase, access: AccessFile) -> bool | None:
    """Tell whether access.yaml declares users of it; None where it is invalid for it."""
    try:
        return bool(access.declared(database))
    except AccessFileInvalid:
        return None


def _unread(database: Database, facts: Unreadable, declared: bool | None) -> Finding:
    return KINDS["database-unreachable"].finding(
        Case(
            database,
            None,
            (database.resource_id,),
            {"stage": facts.stage, "cause": facts.cause, "declared": declared},
            severity="low" if facts.stage == "state" else None,
        )
    )


@dataclass(frozen=True)
class _Server:
    """Judges what was read of one server."""

    database: SelectedDatabase
    facts: ServerFacts
    access: AccessFile
    accounts: Mapping[str, Ownership]
    proxies: Sequence[Proxy]
    proxy_users: frozenset[str]
    secrets: Sequence[SecretFacts]
    at: datetime

    def findings(self) -> list[Finding]:
        """Return all but what needs no session."""
        found: list[Finding] = []
        declared: Mapping[str, DeclaredUser] | None
        try:
            declared = {user.name: user for user in self.access.declared(self.database)}
        except AccessFileInvalid as error:
            # Without it nobody can say who should be there; what is wrong in any case is still said.
            declared = None
            evidence = {"problems": list(error.problems)}
            case = Case(self.database, None, (self.database.resource_id,), evidence)
            found.append(KINDS["access-file-invalid"].finding(case))
        found += self._tls()
        judged = sorted((one for one in self.facts.accounts if not self._left_out(one)), key=_key)
        usable = [one for one in judged if one.login and not one.unusable]
        for name, group in groupby(usable, key=lambda one: one.name):
            found += self._user(name, list(group), declared)
        found += self._administrators(usable)
        found += self._groups(judged, declared)
        found += self._clones(usable)
        found += self._escalations()
        if declared is not None:
            found += self._declared(declared, judged, usable)
        iam = {one.name for one in usable if one.iam and not one.iam_through}
        only = iam - {one.name for one in usable if not one.iam or one.second_password}
        found += of_secrets(self.database, self.secrets, only, self.proxies, self.at)
        return found

    def _left_out(self, account: AccountFacts) -> bool:
        """Tell whether it is the master or rdsiam's own; a namesake with another host is neither."""
        return account.name in {self.database.master_user, MANAGER, AUDITOR} and account.host in {"", "%"}

    def _tls(self) -> Iterator[Finding]:
        if self.facts.tls_enforced is not False:
            return
        exposure = ("public",) if self.database.public else ()
        parameter = REMEDIATIONS[self.database.family].tls_parameter
        logins = [one for one in self.facts.accounts if one.login and not one.unusable and not self._left_out(one)]
        safe = all(one.tls for one in logins)
        yield KINDS["tls-not-enforced"].finding(
            Case(
                self.database,
                None,
                (self.database.resource_id,),
                {"parameter": parameter, "exposure": list(exposure)},
                exposure=() if safe else exposure,
                severity="low" if safe else None,
            )
        )

    def _user(
        self, name: str, accounts: list[AccountFacts], declared: Mapping[str, DeclaredUser] | None
    ) -> Iterator[Finding]:
        """Judge all accounts of one name, on MySQL one for each host pattern."""
        if name == "":
            for one in accounts:
                yield self._finding("anonymous-user", one, declared)
            return
        if name in self.proxy_users:
            for one in accounts:
                if one.iam:
                    yield self._finding("proxy-user-with-iam", one, declared, proxies=self._proxies_of(name))
                elif one.empty_password:
                    yield self._finding("user-with-empty-password", one, declared)
            return
        with_password = [one for one in accounts if not one.iam]
        with_tokens = [one for one in accounts if one.iam]
        if with_password and with_tokens:
            yield self._partly(name, with_tokens, with_password, declared)
            return
        for one in accounts:
            kind = self._kind_of(one, declared)
            if kind == "undeclared-user":
                yield self._finding(kind, one, declared, second_password=one.second_password)
            elif kind == "user-inherits-rds-iam":
                yield self._finding(kind, one, declared, through=list(one.iam_through))
            elif kind == "user-without-tls":
                exposure = tuple(e for e in self._exposure(one) if e in {"privileged", "public"})
                yield self._finding(kind, one, declared, exposure)
            elif kind:
                yield self._finding(kind, one, declared)

    def _kind_of(self, one: AccountFacts, declared: Mapping[str, DeclaredUser] | None) -> str | None:
        """Return the most specific thing that is wrong with how an account logs in."""
        if not one.iam:
            return "user-with-empty-password" if one.empty_password else "user-without-iam"
        if one.replication:
            return "replication-user-with-iam"
        if one.iam_through:
            return None if one.administrator else "user-inherits-rds-iam"
        if declared is not None and one.name not in declared:
            return "undeclared-user"
        if one.second_password or one.empty_password:
            return "user-with-second-password"
        if not one.tls and not self.facts.tls_enforced:
            return "user-without-tls"
        return None

    def _partly(
        self,
        name: str,
        with_tokens: list[AccountFacts],
        with_password: list[AccountFacts],
        declared: Mapping[str, DeclaredUser] | None,
    ) -> Finding:
        is_declared = self._is_declared(name, declared)
        unfinished = [one for one in with_tokens if one.second_password or one.empty_password or not one.tls]
        exposure = tuple(sorted({e for one in with_password for e in self._exposure(one)}))
        worst = max(with_password, key=lambda one: (one.administrator, one.owns))
        evidence = self._evidence(worst, is_declared, exposure) | {
            "tls": all(one.tls for one in with_password),
            "hosts_with_tokens": [one.host for one in with_tokens],
            "hosts_with_passwords": [one.host for one in with_password],
        }
        to_mend = with_password + (with_tokens if is_declared is False else unfinished)
        return KINDS["user-partly-converted"].finding(
            Case(
                self.database,
                name,
                (self.database.resource_id, name),
                evidence,
                accounts=tuple(sorted(to_mend, key=_key)),
                declared=(declared or {}).get(name),
                ours=self._ours(name, declared),
                exposure=exposure,
                more=self._more(),
            )
        )

    def _administrators(self, usable: Sequence[AccountFacts]) -> Iterator[Finding]:
        """Judge whether administrators lost their passwords: the master at all, others by inheritance."""
        master = [one for one in self.facts.accounts if one.name == self.database.master_user and one.host in {"", "%"}]
        caught = [one for one in usable if one.administrator and one.iam_through and one.name not in self.proxy_users]
        for one in (*(one for one in master if one.iam), *(one for one in caught if not one.replication)):
            evidence = {"master": one in master, "through": list(one.iam_through)}
            subject = (self.database.resource_id, one.name, one.host)
            case = Case(self.database, one.label, subject, evidence, accounts=(one,))
            yield KINDS["administrator-locked-out"].finding(case)

    def _groups(self, judged: Sequence[AccountFacts], declared: Mapping[str, DeclaredUser] | None) -> Iterator[Finding]:
        for group in judged:
            if not group.iam or group.iam_through or group.host:
                continue
            members = [one for one in judged if one.login and group.name in one.member_of]
            if group.login:
                if not members or any(one.iam_through for one in members):
                    continue  # those that were caught have findings of their own, which end this as well
            elif self._is_declared(group.name, declared) or (not members and group.name in self.accounts):
                continue  # a declared user that can't log in is missing; one of ours that can't is disabled
            evidence = {"login": group.login, "members": [one.name for one in members]}
            subject = (self.database.resource_id, group.name)
            case = Case(self.database, group.name, subject, evidence, accounts=(group, *members))
            yield KINDS["group-with-rds-iam"].finding(case)

    def _clones(self, usable: Sequence[AccountFacts]) -> Iterator[Finding]:
        names = {one.name for one in usable if not one.host}
        for one in usable:
            successor = one.name.removesuffix("_clone")
            if one.owns and not one.host and successor != one.name and successor in names:
                evidence = {"owns": one.owns, "successor": successor}
                subject = (self.database.resource_id, one.name)
                case = Case(self.database, one.label, subject, evidence, accounts=(one,), more=self._more())
                yield KINDS["objects-owned-by-clone"].finding(case)

    def _escalations(self) -> Iterator[Finding]:
        """Report who can act as an administrator, and in which databases nobody has looked."""
        if self.database.family != "postgres":
            return
        examined = self.facts.examined or Examined((), ())
        for one in examined.escalations:
            evidence = {
                "in": one.database,
                "owner": one.owner,
                "held": one.held,
                "privileges": list(one.privileges),
                "objects": [".".join(name) for name in one.objects],
                "count": one.count,
                "users": list(one.users),
            }
            subject = (self.database.resource_id, one.database, one.owner, one.grantee, one.held, *one.privileges)
            more = {"escalation": one}
            case = Case(self.database, one.grantee or "PUBLIC", subject, evidence, more=more)
            yield KINDS["acts-as-administrator"].finding(case)
        unexamined = sorted({*self.facts.databases} - {*examined.databases})
        if unexamined:
            evidence = {"databases": unexamined, "onboarded": self.facts.examined is not None}
            case = Case(self.database, None, (self.database.resource_id,), evidence, more=self._more())
            yield KINDS["administrators-unexamined"].finding(case)

    def _declared(
        self, declared: Mapping[str, DeclaredUser], judged: Sequence[AccountFacts], usable: Sequence[AccountFacts]
    ) -> Iterator[Finding]:
        """Judge whether all that is declared is there, and may do what is declared."""
        engine = REMEDIATIONS[self.database.family]
        absent: dict[str, list[str]] = {}
        for name, user in declared.items():
            for one in engine.absent(user, self.facts.databases):
                absent.setdefault(one, []).append(name)
            there = [one for one in usable if one.name == name]
            if not there:
                locked = tuple(one for one in judged if one.name == name)
                evidence: dict[str, object] = {"state": "locked" if locked else "absent", "exposure": []}
                subject = (self.database.resource_id, name)
                ours = self._ours(name, declared)
                case = Case(self.database, name, subject, evidence, accounts=locked, declared=user, ours=ours)
                yield KINDS["missing-user"].finding(case)
            # What a password account lacks comes with its conversion, which it has a finding for.
            for account in (one for one in there if one.iam or all(not each.iam for each in there)):
                yield from self._privileges(account, user, declared)
        for name, users in sorted(absent.items()):
            evidence = {"name": name, "users": users}
            subject = (self.database.resource_id, name)
            yield KINDS["declared-database-missing"].finding(Case(self.database, None, subject, evidence))

    def _privileges(
        self, account: AccountFacts, user: DeclaredUser, declared: Mapping[str, DeclaredUser]
    ) -> Iterator[Finding]:
        created = [name for name, ownership in self.accounts.items() if ownership == "created"]
        if user.predecessor:
            lacking, surplus = self._unlike(account, user.predecessor)
        else:
            lacking, surplus = REMEDIATIONS[self.database.family].differences(
                account, user, self.facts.databases, created
            )
        if not lacking and not surplus:
            return
        exposure = ("public",) if self.database.public and surplus else ()
        evidence = {
            "lacking": [{"on": on, "privileges": _listed(privileges)} for on, privileges in lacking],
            "surplus": [{"on": on, "privileges": _listed(privileges)} for on, privileges in surplus],
            "exposure": list(exposure),
        }
        yield KINDS["privileges-differ"].finding(
            Case(
                self.database,
                account.label,
                (self.database.resource_id, account.name, account.host),
                evidence,
                accounts=(account,),
                declared=user,
                ours=self._ours(account.name, declared),
                exposure=exposure,
                severity="medium" if surplus else None,
                # Who replaces another one gets its rights from onboarding alone.
                more={"lacking": [], "surplus": []} if user.predecessor else {"lacking": lacking, "surplus": surplus},
            )
        )

    def _unlike(self, account: AccountFacts, predecessor: str) -> tuple[Privileges, Privileges]:
        """Return what an account lacks of the user that it replaces, and what it holds beyond that."""
        if not account.host:
            return ([] if predecessor in account.member_of else [(predecessor, ("MEMBER",))]), []
        other = [one for one in self.facts.accounts if (one.name, one.host) == (predecessor, account.host)]
        if not other:
            return [], []  # it is gone at last, and its successor keeps what it has
        lacking, surplus = _beyond(other[0], account), _beyond(account, other[0])
        return lacking, surplus

    def _finding(
        self,
        kind: str,
        account: AccountFacts,
        declared: Mapping[str, DeclaredUser] | None,
        exposure: tuple[str, ...] | None = None,
        **evidence: object,
    ) -> Finding:
        exposed = self._exposure(account) if exposure is None else exposure
        if kind in {"replication-user-with-iam", "proxy-user-with-iam"}:
            exposed = ()
        user = (declared or {}).get(account.name)
        return KINDS[kind].finding(
            Case(
                self.database,
                account.label,
                (self.database.resource_id, account.name, account.host),
                self._evidence(account, self._is_declared(account.name, declared), exposed) | evidence,
                accounts=(account,),
                declared=user,
                ours=self._ours(account.name, declared),
                exposure=exposed,
                more=self._more(),
            )
        )

    def _exposure(self, account: AccountFacts) -> tuple[str, ...]:
        holds = {
            "privileged": account.administrator,
            "public": self.database.public,
            "any-host": account.host == "%",
            "clear-text": not account.tls and not self.facts.tls_enforced,
        }
        return tuple(sorted(name for name, so in holds.items() if so))

    def _evidence(self, account: AccountFacts, declared: bool | None, exposure: tuple[str, ...]) -> dict[str, object]:
        return {
            "plugin": account.plugin,
            "administrator": account.administrator,
            "tls": account.tls or bool(self.facts.tls_enforced),
            "owns": account.owns,
            "sessions": account.sessions,
            "last_seen": account.last_seen,
            "declared": declared,
            "exposure": list(exposure),
        }

    def _more(self) -> dict[str, object]:
        until = (self.at + _ACCEPTED).strftime("%Y-%m-%dT00:00:00Z")
        return {"databases": self.facts.databases, "until": until}

    def _proxies_of(self, name: str) -> list[str]:
        arns = {secret.arn for secret in self.secrets if secret.username == name}
        return sorted(
            proxy.name
            for proxy in self.proxies
            if proxy.classic
            and self.database.identifier in proxy.targets
            and (name in proxy.users or arns & set(proxy.secret_arns))
        )

    def _ours(self, name: str, declared: Mapping[str, DeclaredUser] | None) -> bool:
        user = (declared or {}).get(name)
        return name in self.accounts or (user is not None and user.adopt)

    @staticmethod
    def _is_declared(name: str, declared: Mapping[str, DeclaredUser] | None) -> bool | None:
        return None if declared is None else name in declared


def _beyond(one: AccountFacts, other: AccountFacts) -> Privileges:
    """Return the privileges on schemas that `one` holds and `other` does not."""
    more = {on: set(held) - set(other.privileges.get(on, ())) for on, held in sorted(one.privileges.items())}
    return [(on, tuple(sorted(privileges))) for on, privileges in more.items() if privileges]


def _key(account: AccountFacts) -> tuple[str, str]:
    return account.name, account.host


def _listed(privileges: str | tuple[str, ...]) -> str | list[str]:
    return privileges if isinstance(privileges, str) else list(privileges)

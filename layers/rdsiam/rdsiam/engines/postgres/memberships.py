"""Memberships that rdsiam grants for a moment, asks for, and ends."""

from rdsiam.core.changes import Unreached
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.postgres.snapshot import RDSADMIN, Snapshot
from rdsiam.engines.postgres.sql_text import compose
from rdsiam.engines.statements import Statement


def acting_for(snapshot: Snapshot, role: str, actor: str) -> tuple[str, str]:
    """Return the SQL that gives `actor` the rights of `role` and the SQL that takes them back.

    Both run within one transaction, so no other session sees the membership. Memberships that the actor has in the role
    are afterwards as they were, by grantor and option.
    """
    if snapshot.inherits(actor, role):
        return "", ""
    grant, revoke = compose("GRANT {r} TO {a}", r=role, a=actor), compose("REVOKE {r} FROM {a}", r=role, a=actor)
    if not snapshot.has_membership_options:
        return f"{grant}; ", f"; {revoke}"
    # Naming the grantor settles whether the server changes a membership or makes one. Without ADMIN OPTION nobody can
    # be named: on RDS, whatever a member of rds_superuser grants is then granted by rdsadmin.
    administers = snapshot.administers(actor, role)
    by = compose(" GRANTED BY {a}", a=actor) if administers else ""
    grantor = actor if administers else RDSADMIN
    if any(edge.grantor == grantor for edge in snapshot.direct(role, actor)):
        revoke = compose("REVOKE INHERIT OPTION FOR {r} FROM {a}", r=role, a=actor)
    return f"{grant} WITH INHERIT TRUE{by}; ", f"; {revoke}{by}"


def administer(role: str, actor: str) -> str:
    """Return the statement, from PostgreSQL 16 on, by which a role that administers `role` lets `actor` administer it.

    It locks nobody out, even if `role` is an IAM user: the membership neither inherits from the role nor sets it.
    """
    return compose("GRANT {r} TO {a} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", r=role, a=actor)


def remedy_to_act(snapshot: Snapshot, role: str, actor: str) -> str:
    """Return what to do if `actor` may not act for `role`."""
    found = snapshot.roles.get(role)
    if found is not None and found.superuser:
        reassign = compose("REASSIGN OWNED BY {r} TO {m}", r=role, m=snapshot.master)
        return f"{role} is a superuser; to give its objects another owner, run as a superuser: {reassign}"
    if snapshot.is_member(role, actor):
        leaving = compose("REVOKE {a} FROM {r}", a=actor, r=role)
        end = f"run: {leaving}" if snapshot.direct(actor, role) else f"end that membership of {role}"
        return f"{role} is a member of {actor}; {end}, then onboard the database again"
    if not snapshot.has_membership_options:
        # Only a full membership would let the actor act, and that locks it out if the role is an IAM user.
        return f"as {role} run the statements that the plan shows"
    return f"as a role that administers {role} run: {administer(role, actor)}; then onboard the database again"


def leave(snapshot: Snapshot, group: str, member: str, database: str | None = None) -> list[Statement]:
    """Return the statements that end all memberships of `member` in `group`; those that can't be ended are named.

    From PostgreSQL 16 on a role has a membership for each grantor, and only its grantor ends it.
    """
    plain = compose("REVOKE {g} FROM {m}", g=group, m=member)
    edges = snapshot.direct(group, member)
    if not snapshot.has_membership_options:  # then nothing depends on a membership
        authority = snapshot.authority_over(group)
        return [Statement("revoke", member, plain, authority=authority, database=database)] if edges else []
    result: list[Statement] = []
    for edge in edges:
        statement, authority = plain, "manager" if edge.grantor == MANAGER else "master"
        # The master, a member of rds_superuser, grants and revokes as rdsadmin, which it may not name.
        if edge.grantor not in {MANAGER, RDSADMIN}:
            statement += compose(" GRANTED BY {b}", b=edge.grantor)
        denied = Unreached(
            f"{member} in {group}",
            f"{edge.grantor} granted this membership, and {snapshot.actor(authority)} may not end it",
            f"as {edge.grantor} run: {statement}",
            retry=False,
        )
        grantor = snapshot.actor(authority) if edge.grantor == RDSADMIN else edge.grantor
        passed_on = Unreached(
            f"{member} in {group}",
            f"{member} has made others members of {group}",
            f"to end their memberships too, as {grantor} run: {statement} CASCADE",
            retry=False,
        )
        result.append(
            Statement(
                "revoke",
                member,
                statement,
                authority=authority,
                database=database,
                denied=denied,
                passed_on=passed_on,
            )
        )
    return result

"""Rights of accounts of MySQL and MariaDB: the statements between any two of them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from rdsiam.engines.mysql.grants import Rights, Server, difference

MARIADB = Server(True, (10, 11, 6))
MYSQL = Server(False, (8, 4, 7))
PRIVILEGES = st.frozensets(st.sampled_from(["SELECT", "INSERT", "UPDATE"]), min_size=1)
OBJECTS = st.sampled_from([("SCHEMA", "shop"), ("SCHEMA", "a\\_b"), ("TABLE", "shop", "t`x"), ("PROCEDURE", "s", "p")])
ROLES = st.frozensets(st.sampled_from([("r", ""), ("s", "")]))


@st.composite
def rights(draw: st.DrawFn) -> Rights:
    """Draw rights on objects, and roles of which some may be passed on and some are default."""
    roles = draw(ROLES)
    some = st.frozensets(st.sampled_from(sorted(roles))) if roles else st.just(frozenset())
    return Rights(draw(st.dictionaries(OBJECTS, PRIVILEGES)), roles, draw(some), draw(some))


RIGHTS = rights()


@given(RIGHTS, RIGHTS)
def test_the_difference_turns_any_rights_into_any_others(current, desired):
    has = {key: set(value) for key, value in current.on.items()}
    roles, default, administered = set(current.roles), set(current.default), set(current.administered)
    for step in difference(current, desired, MARIADB, "x"):
        verb, _, rest = step.text.partition(" ")
        if step.needs is None:
            if verb == "SET":
                default = {(name, "") for name in re.findall(r"`(.)`", rest)}
                continue
            role = (rest[1 : rest.index("`", 1)], "")
            roles = roles - {role} if verb == "REVOKE" else roles | {role}
            # A role that is revoked may stay a default role, or not: it depends on the server.
            default -= {role} if verb == "REVOKE" else set()
            administered -= {role} if verb == "REVOKE" else set()
            administered |= {role} if rest.endswith(" WITH ADMIN OPTION") else set()
            continue
        key = next(each for each in {**current.on, **desired.on} if f" ON {quoted(each)} " in step.text)
        has.setdefault(key, set())
        has[key] = has[key] - step.needs if verb == "REVOKE" else has[key] | step.needs
    assert {key: value for key, value in has.items() if value} == {key: set(value) for key, value in desired.on.items()}
    assert (roles, default, administered) == (desired.roles, desired.default, desired.administered)
    assert list(difference(desired, desired, MARIADB, "x")) == []


def quoted(key: tuple[str, ...]) -> str:
    names = [name.replace("`", "``") for name in key[1:]]
    if key[0] == "SCHEMA":
        return f"`{names[0]}`.*"
    return f"{'PROCEDURE ' if key[0] == 'PROCEDURE' else ''}`{names[0]}`.`{names[1]}`"


GLOBAL = ["SELECT", "INSERT", "UPDATE"]
DYNAMIC = [("DYNAMIC", "ROLE_ADMIN"), ("DYNAMIC", "XA_RECOVER_ADMIN")]


@st.composite
def rights_on_everything(draw: st.DrawFn) -> Rights:
    """Draw global and dynamic privileges as MySQL has them: restrictions only of global privileges that are held."""
    held = draw(st.frozensets(st.sampled_from(GLOBAL)))
    on: dict[tuple[str, ...], frozenset[str]] = {}
    if held:
        on["USER",] = held | draw(st.sampled_from([frozenset(), frozenset({"GRANT OPTION"})]))
        for schema in draw(st.frozensets(st.sampled_from(["secret", "my_app"]))):
            on["RESTRICTION", schema] = draw(st.frozensets(st.sampled_from(sorted(held)), min_size=1))
    for key in draw(st.frozensets(st.sampled_from(DYNAMIC))):
        on[key] = frozenset({key[1]}) | draw(st.sampled_from([frozenset(), frozenset({"GRANT OPTION"})]))
    return Rights(on)


class Mysql8:
    """Global privileges of one account, as the manual of MySQL says that GRANT and REVOKE change them."""

    def __init__(self, rights: Rights) -> None:
        self.on = {key: set(value) for key, value in rights.on.items()}

    def run(self, statement: str) -> None:
        words, _, rest = statement.partition(" ON ")
        verb, _, listed = words.partition(" ")
        privileges, option = set(listed.split(", ")) - {"USAGE"}, "WITH GRANT OPTION" in rest
        if rest.startswith("*.*"):
            self._everywhere(verb, privileges, option)
            return
        key = ("RESTRICTION", rest.partition("`.*")[0].removeprefix("`"))
        assert privileges <= self.on["USER",], "a restriction is one of a global privilege"
        on = self.on.setdefault(key, set())
        if verb == "GRANT":
            assert privileges <= on, "it would be a privilege on the schema, and not the end of a restriction"
        on.symmetric_difference_update(privileges)

    def _everywhere(self, verb: str, privileges: set[str], option: bool) -> None:
        for privilege in privileges:
            key = ("DYNAMIC", privilege) if "_" in privilege else ("USER",)
            held = self.on.setdefault(key, set())
            if verb == "GRANT":
                held |= {privilege, *({"GRANT OPTION"} if option else ())}
            elif key[0] == "DYNAMIC":
                held.clear()
            else:
                held.discard(privilege)
                for other in self.on:
                    if other[0] == "RESTRICTION":
                        self.on[other].discard(privilege)
        if option and not privileges:
            self.on.setdefault(("USER",), set()).add("GRANT OPTION")

    def rights(self) -> Rights:
        return Rights({key: frozenset(value) for key, value in self.on.items() if value})


@given(rights_on_everything(), rights_on_everything())
def test_the_difference_copies_restrictions_and_the_grant_option_of_each_dynamic_privilege(current, desired):
    server = Mysql8(current)
    for step in difference(current, desired, MYSQL, "x"):
        server.run(step.text)
    assert server.rights() == desired


def test_a_restriction_comes_after_its_global_privilege():
    desired = Rights({("USER",): frozenset({"SELECT"}), ("RESTRICTION", "secret"): frozenset({"SELECT"})})
    texts = [step.text for step in difference(Rights(), desired, MYSQL, "x")]
    assert texts == ["GRANT SELECT ON *.* TO x", "REVOKE SELECT ON `secret`.* FROM x"]

"""Rights of accounts of MySQL and MariaDB: the statements between any two of them."""

from hypothesis import given
from hypothesis import strategies as st

from rdsiam.engines.mysql.grants import Rights, Server, difference

MARIADB = Server(True, (10, 11, 6))
PRIVILEGES = st.frozensets(st.sampled_from(["SELECT", "INSERT", "UPDATE"]), min_size=1)
OBJECTS = st.sampled_from([("SCHEMA", "shop"), ("SCHEMA", "a\\_b"), ("TABLE", "shop", "t`x"), ("PROCEDURE", "s", "p")])
ROLES = st.frozensets(st.sampled_from([("r", ""), ("s", "")]))
RIGHTS = st.builds(Rights, st.dictionaries(OBJECTS, PRIVILEGES), ROLES, st.just(frozenset()))


@given(RIGHTS, RIGHTS)
def test_the_difference_turns_any_rights_into_any_others(current, desired):
    has = {key: set(value) for key, value in current.on.items()}
    roles = set(current.roles)
    for step in difference(current, desired, MARIADB, "x"):
        verb, _, rest = step.text.partition(" ")
        if step.needs is None:
            role = (rest[1 : rest.index("`", 1)], "")
            roles = roles - {role} if verb == "REVOKE" else roles | {role}
            continue
        key = next(each for each in {**current.on, **desired.on} if f" ON {quoted(each)} " in step.text)
        has.setdefault(key, set())
        has[key] = has[key] - step.needs if verb == "REVOKE" else has[key] | step.needs
    assert {key: value for key, value in has.items() if value} == {key: set(value) for key, value in desired.on.items()}
    assert roles == desired.roles
    assert list(difference(desired, desired, MARIADB, "x")) == []


def quoted(key: tuple[str, ...]) -> str:
    names = [name.replace("`", "``") for name in key[1:]]
    if key[0] == "SCHEMA":
        return f"`{names[0]}`.*"
    return f"{'PROCEDURE ' if key[0] == 'PROCEDURE' else ''}`{names[0]}`.`{names[1]}`"

"""The caller: as the authorizer says, and of a JWT as the token says that the authorizer verified."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.callers import Principal
from rdsiam.api.identity import NotAccepted, Oidc, caller_from
from rdsiam.errors import NotAllowed

EVENT = json.loads((Path(__file__).parents[3] / "events" / "tokens-post.json").read_text())
OIDC = Oidc("https://issuer.example", "rdsiam", "rdsiam/tokens")
NO_OIDC = Oidc("", "rdsiam", "rdsiam/tokens")
HEADER = {"alg": "RS256", "kid": "1", "typ": "at+jwt"}
CLAIMS = {
    "iss": "https://issuer.example",
    "sub": "ann",
    "aud": "rdsiam",
    "scope": "openid rdsiam/tokens",
    "exp": 1795512600,
    "groups": ["payments oncall", "a,b", "[c]"],
}


def on_route(route, authorizer, headers=None):
    context = {"routeKey": route, "authorizer": authorizer}
    return {"version": "2.0", "routeKey": route, "headers": headers or {}, "requestContext": context}


def with_caller(user_arn):
    return on_route("POST /tokens", {"iam": {"userArn": user_arn}})


def encoded(part):
    text = part if isinstance(part, str) else json.dumps(part)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def flat(value):
    """Write a claim as API Gateway does."""
    if isinstance(value, list):
        return f"[{' '.join(map(flat, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def with_jwt(claims=CLAIMS, header=HEADER, told=None, token=None):
    token = token if token is not None else f"Bearer {encoded(header)}.{encoded(claims)}.{encoded('signature')}"
    told = {name: flat(value) for name, value in claims.items()} if told is None else told
    return on_route("POST /oidc/tokens", {"jwt": {"claims": told}}, {"authorization": token})


def test_the_caller_is_the_role_behind_the_session():
    caller = caller_from(EVENT, OIDC)
    assert caller.role == "arn:aws:iam::123456789012:role/ci-runner"
    assert caller.session == "build-42"


def test_a_role_of_identity_center_is_a_role():
    arn = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Developer_0123456789abcdef/ann@example.com"
    caller = caller_from(with_caller(arn), OIDC)
    assert caller.role == "arn:aws:iam::123456789012:role/AWSReservedSSO_Developer_0123456789abcdef"
    assert caller.session == "ann@example.com"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"requestContext": {}},
        {"requestContext": None},
        on_route("POST /tokens", None),
        on_route("POST /tokens", []),
        on_route("POST /tokens", {"iam": None}),
        with_caller(None),
        with_caller(7),
        with_caller("arn:aws:iam::123456789012:user/ann"),
        with_caller("arn:aws:iam::123456789012:root"),
        with_caller("arn:aws:sts::123456789012:assumed-role/a/b/c"),
        with_caller("arn:aws:sts::123456789012:assumed-role/a/bc\n"),
        with_caller("arn:aws:sts::1234:assumed-role/a/bc"),
        with_caller("arn:aws:sts::123456789012:federated-user/ann"),
        with_caller("xarn:aws:sts::123456789012:assumed-role/a/bc"),
    ],
    ids=str,
)
def test_without_a_role_from_the_authorizer_the_caller_has_none(event):
    caller = caller_from(event, OIDC)
    assert (caller.role, caller.claims) == (None, {})


IAM = EVENT["requestContext"]["authorizer"]["iam"]
JWT = with_jwt()["requestContext"]["authorizer"]["jwt"]


@pytest.mark.parametrize(
    "event",
    [
        EVENT | {"version": "1.0"},
        EVENT | {"version": 2.0},
        {key: value for key, value in EVENT.items() if key != "version"},
        {key: value for key, value in EVENT.items() if key != "routeKey"},
        EVENT | {"routeKey": "POST /oidc/tokens"},
        EVENT | {"routeKey": "GET /databases"},
        EVENT | {"routeKey": ["POST /tokens"]},
        on_route("POST /tokens", {"iam": IAM, "jwt": JWT}),
        on_route("POST /tokens", {"iam": IAM, "lambda": {"role": "x"}}),
        on_route("POST /tokens", {"lambda": IAM}),
        on_route("POST /tokens", IAM),
        on_route("POST /tokens", {"jwt": JWT}, with_jwt()["headers"]),
        on_route("POST /oidc/tokens", {"iam": IAM}),
        on_route("POST /oidc/tokens", {"iam": IAM, "jwt": JWT}, with_jwt()["headers"]),
        on_route("/oidc/tokens", {"jwt": JWT}, with_jwt()["headers"]),
    ],
    ids=range(15),
)
def test_identities_of_other_authorizers_are_ignored(event):
    caller = caller_from(event, OIDC)
    assert (caller.role, caller.session, caller.claims) == (None, None, {})


@pytest.mark.parametrize("more", [{"groups": ["admins"]}, {"roles": "admins"}, {"admin": True}], ids=str)
def test_a_token_with_more_claims_than_were_verified_is_not_the_verified_one(more):
    verified = {name: flat(value) for name, value in CLAIMS.items() if name not in more}
    with pytest.raises(NotAccepted, match="verified"):
        caller_from(with_jwt(CLAIMS | more, told=verified), OIDC)


@pytest.mark.parametrize("groups", [["admins"], ["payments oncall", "a,b", "[c]", "admins"], ["payments oncall"], []])
def test_a_list_of_other_entries_than_were_verified_is_not_the_verified_one(groups):
    """Whoever may edit the API can have the authorizer verify another token than the one that is read."""
    verified = {name: flat(value) for name, value in CLAIMS.items()}
    with pytest.raises(NotAccepted, match="verified"):
        caller_from(with_jwt(CLAIMS | {"groups": groups}, told=verified), OIDC)


@pytest.mark.parametrize("write", [flat, json.dumps], ids=["as API Gateway does", "as JSON"])
def test_a_list_is_compared_however_it_is_written(write):
    told = {name: flat(value) for name, value in CLAIMS.items()} | {"groups": write(CLAIMS["groups"])}
    assert caller_from(with_jwt(told=told), OIDC).claims["groups"] == CLAIMS["groups"]


@pytest.mark.parametrize("verified", [{}, {"nickname": "null"}], ids=["left out", "told"])
def test_a_claim_that_is_null_may_be_left_out_by_the_authorizer(verified):
    told = {name: flat(value) for name, value in CLAIMS.items()} | verified
    assert caller_from(with_jwt(CLAIMS | {"nickname": None}, told=told), OIDC).session == "https://issuer.example#ann"


def test_a_jwts_claims_are_the_tokens_own_not_the_flattened_ones():
    caller = caller_from(with_jwt(), OIDC)
    assert caller.role is None
    assert caller.name == "https://issuer.example#ann"
    assert caller.claims["groups"] == ["payments oncall", "a,b", "[c]"]
    assert "exp" not in caller.claims


#: A claim that is no text, and its text in Go's form.
OBJECTS = [
    ({"roles": ["oncall", "dev"]}, "map[roles:[oncall dev]]"),
    ({"my.client": {"roles": ["oncall"]}, "a": {"roles": []}}, "map[a:map[roles:[]] my.client:map[roles:[oncall]]]"),
    (True, "true"),
    (7, "7"),
    ([1, "a", False], "[1 a false]"),
]


@pytest.mark.parametrize(("value", "go"), OBJECTS, ids=str)
def test_a_claim_that_is_no_text_is_used_if_the_authorizer_verified_the_same(value, go):
    texts = {name: flat(value) for name, value in CLAIMS.items()}
    for told in (go, json.dumps(value), json.dumps(value, separators=(",", ":")), value):
        caller = caller_from(with_jwt(CLAIMS | {"extra": value}, told=texts | {"extra": told}), OIDC)
        assert caller.claims["extra"] == value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"roles": ["oncall"]}, "map[roles:[dev]]"),
        ({"roles": ["oncall"]}, json.dumps({"roles": ["oncall", "dev"]})),
        ({"roles": ["oncall"]}, "[object Object]"),
        ({"roles": "oncall"}, json.dumps({"roles": ["oncall"]})),
        ({"admin": True}, json.dumps({"admin": 1})),
        ({"admin": True}, json.dumps({"admin": "true"})),
        (True, "false"),
        (True, "1"),
        (7, "8"),
        (1795512600, "1.7955126E9"),
        (1.5, "1.5"),
        ({"half": 0.5}, json.dumps({"half": 0.5})),
        ({"nothing": None}, json.dumps({"nothing": None})),
        ({"a": "x"}, "{" * 5000),
    ],
    ids=str,
)
def test_a_claim_that_can_not_be_compared_is_not_used(value, told):
    """Whoever may edit the API can have the authorizer verify another token than the one that is read."""
    texts = {name: flat(value) for name, value in CLAIMS.items()} | {"extra": told}
    caller = caller_from(with_jwt(CLAIMS | {"extra": value}, told=texts), OIDC)
    assert caller.claims["extra"] is None
    assert caller.claims["groups"] == CLAIMS["groups"]


def test_a_claim_of_many_levels_is_not_used():
    deep: dict[str, object] = {"a": 1}
    for _ in range(40):
        deep = {"a": deep}
    assert caller_from(with_jwt(CLAIMS | {"extra": deep}), OIDC).claims["extra"] is None


@pytest.mark.parametrize("value", [None, 1.5, ["admin", None], {"x": 0.5}, {"roles": [None]}], ids=str)
@pytest.mark.parametrize("name", ["https://corp.example/roles", "realm.client.roles"])
def test_a_path_does_not_lead_past_a_claim_that_can_not_be_used(name, value):
    """A nested object that its holder can influence must not replace the claim that access.yaml names."""
    first, _, rest = name.partition(".")
    rule = Principal(claim={name: "admin"})
    nested = CLAIMS | {first: {rest: ["admin"]}}
    assert rule.admits(caller_from(with_jwt(nested), OIDC))
    assert not rule.admits(caller_from(with_jwt(nested | {name: value}), OIDC))
    start = name.rpartition(".")[0]
    if start != first:
        assert not rule.admits(caller_from(with_jwt(nested | {start: value}), OIDC)), "two places"
    told = {claim: flat(told) for claim, told in nested.items()}
    if value is None:  # which the authorizer may leave out
        assert not rule.admits(caller_from(with_jwt(nested | {name: value}, told=told), OIDC))


# --- tokens as issuers write them ------------------------------------------------------------------------------------

KEYCLOAK = CLAIMS | {"typ": "Bearer", "nonce": "n-0S6", "session_state": "s", "acr": "1", "azp": "rdsiam-cli"}
COGNITO = {name: value for name, value in CLAIMS.items() if name != "aud"} | {
    "client_id": "7a1b2c", "token_use": "access", "cognito:groups": ["oncall"]
}  # fmt: skip
GITHUB = {name: value for name, value in CLAIMS.items() if name != "scope"} | {"repository": "o/r"}
NO_SCOPE = Oidc(OIDC.issuer, OIDC.audience, "")
WITH_CLIENTS = Oidc(OIDC.issuer, OIDC.audience, OIDC.scope, frozenset({"7a1b2c", "other"}))


@pytest.mark.parametrize(
    ("claims", "oidc"),
    [
        (KEYCLOAK, OIDC),
        (KEYCLOAK | {"scope": ["openid", "rdsiam/tokens"]}, OIDC),
        (COGNITO, WITH_CLIENTS),
        (COGNITO | {"aud": "rdsiam"}, WITH_CLIENTS),
        (CLAIMS, WITH_CLIENTS),
        (GITHUB, NO_SCOPE),
        (CLAIMS, NO_SCOPE),
        (COGNITO | {"scope": "aws.cognito.signin.user.admin"}, Oidc(OIDC.issuer, "x", "", frozenset({"7a1b2c"}))),
        (CLAIMS | {"scope": None, "scp": "User.Read rdsiam/tokens", "oid": "x", "ver": "2.0"}, OIDC),
    ],
    ids=["Keycloak", "Keycloak, scopes in a list", "Cognito", "Cognito with aud", "with aud", "GitHub Actions",
         "with a scope", "Cognito without a scope of its own", "Entra"],
)  # fmt: skip
def test_access_tokens_as_issuers_write_them_are_accepted(claims, oidc):
    claims = {name: value for name, value in claims.items() if value is not None}
    assert caller_from(with_jwt(claims), oidc).session == "https://issuer.example#ann"


@pytest.mark.parametrize(
    ("claims", "oidc", "why"),
    [
        (KEYCLOAK | {"typ": "ID"}, OIDC, "type"),
        (KEYCLOAK | {"typ": "Refresh"}, OIDC, "type"),
        (KEYCLOAK | {"typ": "bearer"}, OIDC, "ID token"),
        (KEYCLOAK | {"typ": ["Bearer"]}, OIDC, "ID token"),
        (KEYCLOAK | {"at_hash": "h"}, OIDC, "ID token"),
        (KEYCLOAK, NO_SCOPE, "ID token"),
        (CLAIMS | {"typ": "ID"}, NO_SCOPE, "type"),
        (COGNITO, OIDC, "audience"),
        (COGNITO | {"client_id": "7a1b2d"}, WITH_CLIENTS, "OidcClientIds"),
        (COGNITO | {"client_id": ["7a1b2c"]}, WITH_CLIENTS, "OidcClientIds"),
        (COGNITO | {"client_id": "7a1b2c,other"}, WITH_CLIENTS, "OidcClientIds"),
        (COGNITO | {"client_id": ""}, WITH_CLIENTS, "OidcClientIds"),
        (COGNITO | {"client_id": "rdsiam"}, WITH_CLIENTS, "OidcClientIds"),
        (COGNITO | {"token_use": "id"}, WITH_CLIENTS, "type"),
        ({name: value for name, value in COGNITO.items() if name != "token_use"}, WITH_CLIENTS, "OidcClientIds"),
        (COGNITO | {"aud": "7a1b2c"}, WITH_CLIENTS, "audience"),
        (COGNITO | {"aud": []}, WITH_CLIENTS, "audience"),
        (COGNITO | {"scope": "openid"}, WITH_CLIENTS, "scope"),
        (GITHUB, OIDC, "scope"),
        (GITHUB | {"aud": "sts.amazonaws.com"}, NO_SCOPE, "audience"),
        (GITHUB | {"nonce": "n"}, NO_SCOPE, "ID token"),
    ],
    ids=range(21),
)
def test_a_parameter_admits_no_other_token(claims, oidc, why):
    with pytest.raises(NotAccepted, match=why):
        caller_from(with_jwt(claims), oidc)


def test_the_rules_are_those_of_the_environment():
    variables = {f"RDSIAM_OIDC_{name}": name.lower() for name in ("ISSUER", "AUDIENCE", "SCOPE")}
    assert Oidc.of(variables | {"RDSIAM_OIDC_CLIENTS": ""}) == Oidc("issuer", "audience", "scope")
    assert Oidc.of(variables | {"RDSIAM_OIDC_CLIENTS": "a,b"}).clients == {"a", "b"}


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT", "JWT", None])
def test_access_tokens_are_of_these_types(typ):
    header = {name: value for name, value in (HEADER | {"typ": typ}).items() if value}
    assert caller_from(with_jwt(header=header), OIDC).session == "https://issuer.example#ann"


@pytest.mark.parametrize(
    "changed",
    [{"aud": ["other", "rdsiam"]}, {"scope": None, "scp": ["rdsiam/tokens"]}, {"token_use": "access"}],
    ids=str,
)
def test_other_forms_of_an_access_token_are_accepted(changed):
    claims = {name: value for name, value in (CLAIMS | changed).items() if value is not None}
    assert caller_from(with_jwt(claims), OIDC).session == "https://issuer.example#ann"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"iss": "https://issuer.example/"}, "issuer"),
        ({"sub": None}, "no subject that could be verified"),
        ({"sub": ""}, "subject"),
        ({"sub": "a\u202eb"}, "subject"),
        ({"sub": ["ann"]}, "verified"),
        ({"aud": None}, "audience"),
        ({"aud": None, "client_id": "rdsiam"}, "audience"),
        ({"aud": "rdsiam2"}, "audience"),
        ({"aud": "rdsiam other"}, "audience"),
        ({"aud": ["rdsiam other"]}, "audience"),
        ({"aud": [["rdsiam"]]}, "audience"),
        ({"aud": {"rdsiam": 1}}, "audience"),
        ({"scope": None}, "scope"),
        ({"scope": "rdsiam/tokens2"}, "scope"),
        ({"scope": "RDSIAM/TOKENS"}, "scope"),
        ({"scope": ["rdsiam/tokens2"]}, "scope"),
        ({"scope": "x", "scp": "rdsiam/tokens"}, "scope"),
        ({"token_use": "id"}, "type"),
        ({"token_use": ["access"]}, "type"),
        ({"nonce": "n"}, "ID token"),
        ({"at_hash": "h"}, "ID token"),
        ({"c_hash": "h"}, "ID token"),
        ({"typ": "Serialized-ID"}, "type"),
        ({"typ": "RegistrationAccessToken"}, "type"),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "type"),
    ],
    ids=str,
)
def test_a_jwt_that_is_no_access_token_for_this_api_is_not_accepted(changed, why):
    claims = {name: value for name, value in (CLAIMS | changed).items() if value is not None}
    with pytest.raises(NotAccepted, match=why):
        caller_from(with_jwt(claims), OIDC)


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "secevent+jwt", "id_token", 7])
def test_other_types_are_not_accepted(typ):
    with pytest.raises(NotAccepted, match="type"):
        caller_from(with_jwt(header=HEADER | {"typ": typ}), OIDC)


@pytest.mark.parametrize(
    "event",
    [
        with_jwt(token=""),
        with_jwt(token="Bearer"),
        with_jwt(token="a.b.c"),
        with_jwt(token=f"{encoded(HEADER)}.{encoded(CLAIMS)}"),
        with_jwt(token=f"{encoded(HEADER)}.{encoded(CLAIMS)}.x,{encoded(HEADER)}.{encoded(CLAIMS)}.x"),
        with_jwt(token=f"{encoded(HEADER)}.{encoded('[' * 5000)}.x"),
        with_jwt(token=f"{encoded(HEADER)}.{encoded(json.dumps(CLAIMS)[:-1] + ', "sub": "bob"}')}.x"),
        with_jwt(token=f"{encoded(HEADER)}.{encoded([CLAIMS])}.x"),
        with_jwt(told={name: flat(value) for name, value in CLAIMS.items()} | {"sub": "bob"}),
        with_jwt(told={name: flat(value) for name, value in CLAIMS.items()} | {"extra": "x"}),
        with_jwt(told={"sub": "ann"}),
        with_jwt(told={"userArn": "x"}),
        with_jwt(told=[]),
    ],
    ids=range(13),
)
def test_a_token_other_than_the_verified_token_identifies_nobody(event):
    with pytest.raises(NotAccepted, match="verified"):
        caller_from(event, OIDC)


def test_without_an_issuer_no_jwt_is_accepted():
    with pytest.raises(NotAllowed):
        caller_from(with_jwt(CLAIMS | {"iss": ""}), NO_OIDC)


@given(st.text() | st.binary().map(lambda raw: f"x.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}.y"))
def test_no_text_in_place_of_the_token_is_accepted(token):
    with pytest.raises(NotAccepted):
        caller_from(with_jwt(token=token), OIDC)

"""The caller: as the authorizer says, and of a JWT as the token says that the authorizer verified."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ({"sub": None}, "verified"),
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

"""Rotation on PostgreSQL without a server: verifiers, names of clones, and libpq."""

import base64
import hashlib
import hmac

import pytest
from psycopg import pq

from rdsiam.engines.postgres.rotation import PostgresRotator, verifier
from rdsiam.errors import Refused

# RFC 7677, section 3: user "user", password "pencil".
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def test_the_verifier_equals_that_of_rfc_7677():
    # The server key of the RFC's exchange signs its messages as the RFC says.
    text = verifier("pencil", SALT, 4096)
    assert text.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    stored, server = (base64.b64decode(part) for part in text.split("$")[2].split(":"))
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}".encode()
    assert base64.b64encode(hmac.digest(server, message, "sha256")) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored, message, "sha256")
    client = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client).digest() == stored


def test_a_name_that_postgresql_would_cut_is_refused():
    with pytest.raises(Refused, match="63 bytes"):
        PostgresRotator().clone_name("ä" * 30)


def test_libpq_knows_the_option_that_refuses_clear_text():
    assert pq.version() >= 160000

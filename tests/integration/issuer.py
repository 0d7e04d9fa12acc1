"""An issuer of JWTs, with the addresses at which API Gateway fetches its keys."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jws
from joserfc.jwk import RSAKey

AUDIENCE, SCOPE = "rdsiam", "rdsiam/tokens"


class Issuer:
    """Signs whatever it is asked to, good or bad."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.other_key = RSAKey.generate_key(2048, {"kid": "one"})
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                addresses = {
                    "/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"},
                    "/keys": {"keys": [issuer.key.as_dict(private=False)]},
                }
                found = addresses.get(self.path)
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *_: Any) -> None:
                """Be silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a good access token for half an hour; None takes one away."""
        now = int(time.time())
        good = {
            "iss": self.url,
            "sub": "ann",
            "aud": AUDIENCE,
            "scope": f"openid {SCOPE}",
            "iat": now,
            "exp": now + 1800,
        }
        return {name: value for name, value in (good | changed).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **changed: Any) -> str:
        """Return a signed token."""
        return self.sign(json.dumps(self.claims(**changed)), header, key)

    def sign(self, payload: str, header: dict[str, Any] | None = None, key: Any = None) -> str:
        """Return a signed token with any payload."""
        whole = {"alg": "RS256", "kid": "one", "typ": "at+jwt"} | (header or {})
        kept = {name: value for name, value in whole.items() if value is not None}
        return jws.serialize_compact(kept, payload, key or self.key, algorithms=[kept["alg"]])

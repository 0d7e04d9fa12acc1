"""Known errors of AWS: credentials, throttled logins, RDS Proxy, Secrets Manager."""

from rdsiam.doctor.known_error import Certainty, KnownError

ERRORS: tuple[KnownError, ...] = (
    KnownError(
        r"too many competing requests|canceling authentication due to timeout|rdsauthproxy.*503|\b503\b.*rdsauth",
        "too many new connections at once for this instance class: IAM authentication takes memory and CPU",
        ("reuse connections: a pool", "retry with a growing, random pause", "a larger instance class"),
    ),
    KnownError(
        r"X-Amz-Security-Token",
        "the token was signed with an empty or missing session token",
        ("sign with AWS's SDK or rdsiam token, which leave an empty one out",),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"couldn.t authenticate using IAM.*value is missing|value is missing.*X-Amz-Security-Token",
        "the token was signed with an empty or missing session token",
        ("sign with AWS's SDK or rdsiam token, which leave an empty one out",),
    ),
    KnownError(
        r"proxy has no credentials for (the )?(role|user)",
        "the proxy logs in to its database by password, and none of its secrets is this user's; or it takes tokens end "
        "to end, and its own role may not rds-db:connect as this user",
        ("without the proxy: rdsiam psql DATABASE",
         "aws rds modify-db-proxy --db-proxy-name NAME --default-auth-scheme IAM_AUTH, and rds-db:connect for its "
         "role, once all of its clients send tokens: it takes no passwords from then on",
         "aws rds describe-db-proxies --db-proxy-name NAME --query 'DBProxies[].Auth'"),
    ),
    KnownError(
        r"IAM authentication failed for (the )?(role|user)",
        "the proxy refused the token: signed for the database's endpoint instead of the proxy's, too old, or without "
        "rds-db:connect on the proxy's own resource id (prx-…)",
        ("declare the proxy in access.yaml by its name, then rdsiam onboard its ARN", "rdsiam doctor PROXY_ARN USER"),
    ),
    KnownError(
        r"proxy requires TLS|IAM authentication (is allowed only|requires).*(SSL|TLS)",
        "the connection to the proxy is not encrypted",
        ("sslmode=verify-full; a proxy's certificate is of Amazon's public authorities, not of RDS's bundle",),
    ),
    KnownError(
        r"RDS Proxy (supports only|currently (does not|doesn't) support)|Feature not supported: RDS Proxy",
        "the proxy lacks what the client asks for: a way of logging in, or options in the first packet",
        ("leave `options` out of the connection's settings", "without the proxy: rdsiam psql DATABASE"),
    ),
    KnownError(
        r"Timed[- ]?out waiting to acquire database connection",
        "the proxy got no connection to its database in time: all are in use, or its password or role is refused there",
        ("aws rds describe-db-proxy-targets --db-proxy-name NAME --query 'Targets[].TargetHealth'",),
    ),
    KnownError(
        r"Signature (expired|not yet current)|RequestTimeTooSkewed|RequestExpired",
        "this machine's clock is wrong, or the request waited too long",
        ("timedatectl set-ntp true", "rdsiam doctor DATABASE USER"),
    ),
    KnownError(
        r"ExpiredToken|token included in the request is expired|(SSO|Token).*(session|token).*(has )?expired|"
        r"Error loading SSO Token|refresh failed",
        "your AWS credentials have expired",
        ("aws sso login",),
    ),
    KnownError(
        r"Unable to (locate|load|find) (AWS )?credentials|could not load (default )?credentials|NoCredentials|"
        r"no EC2 IMDS role found|failed to refresh cached credentials",
        "the client found no AWS credentials to sign with",
        ("set AWS_PROFILE, or run aws sso login", "aws sts get-caller-identity"),
    ),
    KnownError(
        r"InvalidClientTokenId|UnrecognizedClient|security token included in the request is invalid",
        "AWS doesn't know these credentials: deleted keys, or keys of another partition",
        ("aws sts get-caller-identity",),
    ),
    KnownError(
        r"not authorized to perform: [\w:-]+",
        "your role lacks a permission of IAM; the message names it",
        ("aws sts get-caller-identity", "docs/permissions.md"),
    ),
    KnownError(
        r"previous rotation isn.t complete",
        "a rotation has begun and not ended: its last step failed, and Secrets Manager repeats it",
        ("rdsiam rotate status DATABASE USER", "rdsiam rotate unstick DATABASE USER"),
    ),
    KnownError(
        r"Unable to log into database with previous, current, or pending secret",
        "AWS's rotation function could not log in with any version of the secret: the password was changed elsewhere, "
        "or the way to the database is closed",
        ("rdsiam rotate status DATABASE USER", "rdsiam doctor DATABASE USER"),
    ),
)  # fmt: skip

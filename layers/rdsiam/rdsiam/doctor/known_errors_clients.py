"""Known errors of drivers and tools: clear-text plugins, TLS, tokens in addresses, names and networks."""

from rdsiam.doctor.known_error import Certainty, KnownError, number

#: The certificate is good, and for another name than the client's.
_ANOTHER_NAME = (
    r"does not match host ?name|hostname mismatch|Hostname/IP does not match|IP address mismatch|"
    r"ERR_TLS_CERT_ALTNAME_INVALID|NotValidForName|certificate is (not )?valid for (?!yet)\S|"
    r"could not be verified by hostname|No subject alternative (DNS )?names? (matching|present)|"
    r"No name matching \S+ found|RemoteCertificateNameMismatch|doesn.t contain any IP SANs"
)
#: The certificate, or that of its authority, is too old or too new.
_EXPIRED = (
    r"certificate has expired|certificate expired|CERT_HAS_EXPIRED|CertificateExpired|CertificateNotYetValid|"
    r"certificate is not yet valid|NotTimeValid|expired certificate|validity check failed|legacy Common Name"
)

ERRORS: tuple[KnownError, ...] = (
    KnownError(
        r"mysql_clear_password\.so|mysql_clear_password.*(cannot open shared object|module could not be found|"
        r"No such file)|cannot open shared object file|unknown to the client \[mysql_clear_password\]|"
        r"Plugin mysql_clear_password could not be loaded|dialog.*could not be loaded",
        "MariaDB's connector has no clear-text plugin installed",
        ("install the connector's plugins (Debian: libmariadb3), or use PyMySQL, which has it built in",
         "HeidiSQL: choose libmysql.dll as the library and switch clear-text authentication on"),
    ),
    KnownError(
        r"mysql_clear_password.*(requires|only over|without) (SSL|TLS|encryption|a secure)|"
        r"(SSL|TLS|secure) connection (is )?required for plugin .?mysql_clear_password",
        "the client sends a token in clear text inside TLS only, and the connection has no TLS",
        ("rdsiam mysql DATABASE", "JDBC: sslMode=VERIFY_IDENTITY with the RDS bundle in the trust store"),
    ),
    KnownError(
        r"MYSQL_CLEAR_PASSWORD|mysql_clear_password.*(not enabled|cannot be loaded|not configured|unknown|failed)|"
        r"Authentication plugin.*clear|requires clear text authentication|allowCleartextPasswords|"
        r"(unknown|load) (authentication )?plugin.{0,4}mysql_clear_password",
        "the client refuses to send a token in clear text inside TLS: its plugin is off by default",
        (
            "rdsiam mysql DATABASE",
            "mysql: --enable-cleartext-plugin --ssl-mode=VERIFY_IDENTITY --ssl-ca=global-bundle.pem; programs of its "
            "library: LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN=1",
            "node mysql2: enableCleartextPlugin: true, together with ssl: {ca}",
            "Go: allowCleartextPasswords=true with tls=…; ODBC: ENABLE_CLEARTEXT_PLUGIN=1; "
            "JDBC: defaultAuthenticationPlugin=mysql_clear_password, as com.mysql.cj's class",
        ),
    ),
    KnownError(
        r"Public Key Retrieval is not allowed|RSA public key is not available|"
        r"caching_sha2_password.*(secure connection|cannot be loaded|failed|not configured)|"
        r"requires (mysql native|old) password authentication|"
        rf"{number(1251, 2061)}|Client does not support authentication protocol|ER_NOT_SUPPORTED_AUTH_MODE",
        "the server asks this account for a password: it doesn't log in by token (another plugin than "
        "AWSAuthenticationPlugin), or the client lacks the account's plugin",
        ("rdsiam onboard DATABASE --plan", "rdsiam doctor DATABASE USER"),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"password must be a string|no password was provided|No password has been provided|no password supplied|"
        r"password is required|empty password returned by client|password is an empty string|"
        r"Access denied for user .*\(using password: NO\)",
        "the client sent no password: the token was not passed on, or is a promise or a function that nobody awaited; "
        "a server that asks for SCRAM takes no token either: the user is not in rds_iam",
        ("pass the token as the password, made anew for each connection", "rdsiam doctor DATABASE USER"),
    ),
    KnownError(
        r"invalid percent-encoded token|Could not parse (SQLAlchemy|rfc1738) URL|invalid URI query parameter|"
        r"extra key/value separator|invalid (port|integer value).*(amazonaws|X-Amz)|"
        r"(invalid|malformed) (database )?(DSN|URL|URI|connection string)|"
        r"cannot parse `?.*(X-Amz|amazonaws)|invalid userinfo|port could not be cast",
        "the token was written into an address without being encoded: it contains `:`, `/`, `?`, `&` and `%`",
        ("pass the token as an argument, or in PGPASSWORD, not in an address: rdsiam exec DATABASE -- COMMAND",
         "Python: urllib.parse.quote(token, safe='')"),
    ),
    KnownError(
        rf"\A(?!.*(?:{_ANOTHER_NAME}|{_EXPIRED})).*(?:"
        r"certificate verify failed|unable to get (local )?issuer|self[- ]signed certificate|CERTIFICATE_VERIFY_FAILED|"
        r"PKIX path (building|validation) failed|unable to find valid certification path|trustAnchors|"
        r"certificate signed by unknown authority|UnknownIssuer|(SELF_SIGNED|UNABLE_TO)_\w*CERT|"
        r"remote certificate (is invalid|was rejected)|SSL Authentication Error|"
        r"root certificate file .* does not exist|Could not open SSL root certificate|SSL_CTX_set_default_verify_paths|"
        r"Certificate verification failure|certificate is NOT trusted|Validation of SSL server certificate failed|"
        r"unable to verify the first certificate|unknown[ _]ca\b)",
        "RDS's certificate authorities are in no trust store: verification needs their bundle; never turn it off",
        ("rdsiam psql DATABASE", "sslrootcert=global-bundle.pem from https://truststore.pki.rds.amazonaws.com",
         "Java: keytool -importcert of each certificate of the bundle into a trust store, or pgjdbc's sslrootcert; "
         "Node: ssl: {ca}; .NET: Root Certificate or SslCa; Go: RootCAs"),
    ),
    KnownError(
        _ANOTHER_NAME,
        "the certificate is for the endpoint, and the connection goes to a CNAME, an address or a tunnel",
        ("rdsiam psql DATABASE --via HOST:PORT",),
    ),
    KnownError(
        _EXPIRED,
        "the certificate is not valid at this time: the server's is of an authority of RDS that has expired, the "
        "client's bundle is old, or the client's clock is wrong",
        ("aws rds describe-db-instances --query 'DBInstances[].[DBInstanceIdentifier,CertificateDetails]'",
         "aws rds modify-db-instance --db-instance-identifier NAME --ca-certificate-identifier rds-ca-rsa2048-g1",
         "a new global-bundle.pem from https://truststore.pki.rds.amazonaws.com"),
    ),
    KnownError(
        r"alert protocol version|unsupported protocol|No appropriate protocol|(ssl|tls)v?\d*[ _]alert[ _]handshake|"
        r"handshake[ _]failure|no protocols available|UNSUPPORTED_PROTOCOL|no cipher suite|TLS version|"
        r"server selected unsupported protocol",
        "client and server have no version of TLS, or no cipher, in common: one of the two is old, or its parameters "
        "(ssl_min_protocol_version, tls_version) leave it out",
        ("rdsiam doctor DATABASE USER", "a client whose TLS library speaks TLS 1.2 or 1.3"),
    ),
    KnownError(
        r"server (does not|doesn't) support (SSL|TLS|secure)|SSL is not enabled on the server|"
        r"does not support SSL connections|HANDSHAKE_NO_SSL_SUPPORT|rejected SSL upgrade|server refused TLS",
        "the server, or what answers in its place, offers no TLS: a tunnel or pooler, or the wrong port",
        ("rdsiam doctor DATABASE USER",),
    ),
    KnownError(
        r"invalid response to SSL negotiation|Malformed (communication )?packet|packets? out of order|"
        r"unexpected message type|expected SASL response|WRONG_VERSION_NUMBER|first record does not look like a TLS",
        "something else than this kind of server answers: the port of the other engine, an HTTP proxy, or a tunnel to "
        "another database",
        ("rdsiam doctor DATABASE USER", "PostgreSQL's port is 5432 and MySQL's 3306, unless RDS says otherwise"),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"unsupported startup parameter",
        "a pooler or proxy in front of the database refuses a setting that the client sends as it connects",
        ("leave the setting out of the connection's settings, or name it in the pooler's ignore_startup_parameters",
         "without the pooler: rdsiam psql DATABASE"),
    ),
    KnownError(
        r"Authentication failed against (the )?database server|was denied access on the database",
        "the client hides the server's error: the token or the password was refused, or the user lacks a privilege",
        ("rdsiam doctor DATABASE USER", "the server's own error: rdsiam psql or rdsiam mysql DATABASE"),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"could not translate host name|Name or service not known|getaddrinfo|Unknown MySQL server host|ENOTFOUND|"
        r"UnknownHostException|No such host is known|no such host|nodename nor servname|NXDOMAIN",
        "the endpoint's name does not resolve: a typing mistake, a deleted database, or a private zone",
        ("aws rds describe-db-instances --query 'DBInstances[].Endpoint'",
         "aws rds describe-db-clusters --query 'DBClusters[].[Endpoint,ReaderEndpoint]'"),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"Connection is not available, request timed out|QueuePool limit|connection pool has been exhausted|"
        r"a (new |database )?connection from the (connection )?pool|pool timed out|PoolTimeout|"
        r"couldn.t get a connection after|The pool is probably full|timeout exceeded when trying to connect|"
        r"ResourceRequest timed out|"
        r"ConnectionAcquireTimeout",
        "the client's own pool gave out no connection in time: all are in use or never given back, or new logins fail, "
        "which an earlier line of the client's log says",
        ("look for the first error of a login in the log, and give it to rdsiam doctor --error",
         "a larger pool, and code that gives connections back; `connections` of the user in access.yaml is their limit",
         "rdsiam doctor DATABASE USER"),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"Task timed out",
        "a function in a VPC that can't reach AWS's services or the database",
        ("endpoints for secretsmanager, sts, rds and logs in the VPC, or a NAT gateway; a time limit of 30 s",),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"Connection (to \S+ )?refused|timed? ?out|ETIMEDOUT|ECONNREFUSED|Can't connect to|"
        r"Communications link failure|connection attempt failed|Failed to connect to|No route to host|"
        r"Can't reach database server|server has gone away|bad connection|closing bad idle connection|EOF detected|"
        r"(Lost connection|Connection terminated|server closed the connection|Exception while reading)",
        "nothing answers at host and port, or it hung up: the security group, the way there, or a database that is "
        "stopped or restarts",
        ("rdsiam doctor DATABASE USER",
         "aws rds describe-db-instances --query 'DBInstances[].[DBInstanceStatus,VpcSecurityGroups]'",
         "aws rds describe-db-clusters --query 'DBClusters[].[Status,VpcSecurityGroups]'"),
        Certainty.REMARK,
    ),
)  # fmt: skip

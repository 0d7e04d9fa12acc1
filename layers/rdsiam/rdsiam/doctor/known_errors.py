"""Known errors of logins: messages of servers, drivers and tools, their likely cause, and what to do.

From public issue threads and AWS's documentation.
"""

from itertools import chain

from rdsiam.doctor import known_errors_aws, known_errors_clients, known_errors_mysql, known_errors_postgres
from rdsiam.doctor.known_error import Certainty, KnownError

KNOWN_ERRORS: tuple[KnownError, ...] = tuple(
    chain(known_errors_aws.ERRORS, known_errors_postgres.ERRORS, known_errors_mysql.ERRORS, known_errors_clients.ERRORS)
)


def explain(text: str) -> tuple[KnownError, ...]:
    """Return the explanations of an error message, the likeliest first; empty if it is not known.

    If the text names its cause, nothing else is explained.
    """
    matching = sorted((known for known in KNOWN_ERRORS if known.matches(text)), key=lambda known: known.certainty)
    certain = tuple(known for known in matching if known.certainty == Certainty.CAUSE)
    return certain or tuple(matching)

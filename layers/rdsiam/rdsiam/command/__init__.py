"""The `rdsiam` command. Data goes to stdout, everything else to stderr, and secrets to neither.

Exit codes: 0 ok, 1 unexpected, 2 usage, 3 findings or differences, 4 denied, 5 not found, 6 try again, 7 incomplete,
130 interrupted.
"""

import sys


def main() -> None:
    """Run the command; the entry point of `pipx install ./layers/rdsiam`."""
    try:
        from rdsiam.command import streams

        streams.prepare()
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(streams.run(_main))


def _main() -> None:
    from rdsiam.command import fast_token

    if fast_token.token(sys.argv[1:]):
        return
    # Imported late, because a token signed the fast way needs none of it.
    from rdsiam.command.app import run

    run()

"""Fixtures live in files named after what they provide."""

pytest_plugins = [
    "tests.integration.fix_fleet",
    "tests.integration.fix_account",
    "tests.integration.fix_browser",
    "tests.integration.fix_engines",
    "tests.integration.fix_issuer",
    "tests.integration.fix_passwords",
    "tests.integration.fix_rotation",
    "tests.integration.fix_dying",
    "tests.integration.fix_strangers",
    "tests.integration.fix_tokens",
    "tests.sam.fix_build",
    "tests.sam.fix_local",
]

"""How many examples hypothesis tries: all in `make test-all`, a fifth of them in `make test` and `make check`."""

from hypothesis import HealthCheck, settings

#: No example has a deadline, and slow ones are no fault: the machine may be busy.
_OF_BOTH = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ALL, QUICK = "all", "quick"
settings.register_profile(ALL, _OF_BOTH, max_examples=100)
settings.register_profile(QUICK, _OF_BOTH, max_examples=20)


def at_most(number: int) -> int:
    """Return how many examples are tried of a test that has this number in `make test-all`."""
    return number if settings.get_current_profile_name() == ALL else max(1, number // 5)

"""Numbers of examples: a fifth of all in `make test`, all in `make test-all`, 20 times that in `make stress`."""

from hypothesis import HealthCheck, settings

#: By what the number of examples that a test names is multiplied.
FACTORS = {"quick": 0.2, "all": 1, "stress": 20}

# No example has a deadline, and slow ones are no fault: the machine may be busy.
for _name, _factor in FACTORS.items():
    settings.register_profile(
        _name, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=round(100 * _factor)
    )


def between_kills() -> int:
    """Return how far the calls are apart at which a test kills a run: `make test` takes every third of them."""
    return 3 if settings.get_current_profile_name() == "quick" else 1


def at_most(number: int) -> int:
    """Return how many examples are tried of a test that tries this number in `make test-all`."""
    return max(1, round(number * FACTORS[settings.get_current_profile_name()]))

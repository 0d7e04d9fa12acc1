"""The number of examples of hypothesis: a fifth in `make test`, all in `make test-all`, 20 times in `make stress`."""

from hypothesis import HealthCheck, settings

#: By what the number of examples that a test names is multiplied.
FACTORS = {"quick": 0.2, "all": 1, "stress": 20}

# No example has a deadline, and slow ones are no fault: the machine may be busy.
for _name, _factor in FACTORS.items():
    settings.register_profile(
        _name, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=round(100 * _factor)
    )


def at_most(number: int) -> int:
    """Return how many examples are tried of a test that tries this number in `make test-all`."""
    return max(1, round(number * FACTORS[settings.get_current_profile_name()]))

"""The cap on new connections, in virtual time: never exceeded, first come first served, bounded waits."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rdsiam.proxy.rate import QueueFull, Rate


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once when everything waits."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 0.0
        selector = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def jump(timeout: float | None = None) -> Any:
            self._virtual += timeout or 0
            return select(0)

        selector.select = jump

    def time(self) -> float:
        return self._virtual


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


@dataclass
class Calls:
    """The outcome of calls, by their number."""

    passed: dict[int, float] = field(default_factory=dict)
    refused: dict[int, float] = field(default_factory=dict)


async def call(rate: Rate, calls: Calls, number: int, patience: float | None) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience):
            await rate.turn()
        calls.passed[number] = loop.time()
    except QueueFull:
        calls.refused[number] = loop.time()
    except TimeoutError:
        pass


#: Pause before a call, and the seconds after which its client has gone.
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 0.01, 0.3, 1, 2.5]), st.one_of(st.none(), st.sampled_from([0.01, 0.5, 1.0, 1.5]))
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(arrivals=ARRIVALS, per_second=st.integers(1, 5), longest=st.sampled_from([0, 0.5, 1, 3]))
@example(arrivals=[(0, None)] * 20, per_second=1, longest=3)
@example(arrivals=[(0, 0.5)] * 10 + [(0.6, None)], per_second=1, longest=3)
def test_the_cap_holds_in_order_and_in_time(arrivals, per_second, longest):
    async def main() -> None:
        loop, rate, calls, began, tasks = asyncio.get_running_loop(), Rate(per_second, longest), Calls(), {}, []
        for number, (pause, patience) in enumerate(arrivals):
            if pause:
                await asyncio.sleep(pause)
            began[number] = loop.time()
            tasks.append(asyncio.ensure_future(call(rate, calls, number, patience)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        times = sorted(calls.passed.values())
        for earlier, later in zip(times, times[per_second:], strict=False):
            assert later - earlier >= 1 - 2e-6
        assert sorted(calls.passed, key=lambda number: (calls.passed[number], number)) == sorted(calls.passed)
        for number, at in {**calls.passed, **calls.refused}.items():
            assert at - began[number] <= longest + 1e-6
        assert rate.waiting == 0
        if arrivals:
            assert 0 in calls.passed
        # Nobody is refused while the last second had room.
        for number, at in calls.refused.items():
            before = [each for each in times if at - 1 < each <= at]
            assert len(before) >= per_second, number

    run(main())


def test_a_client_that_has_gone_leaves_its_place_to_the_next():
    async def main() -> None:
        rate, calls = Rate(1, 10), Calls()
        await rate.turn()
        gone = [asyncio.ensure_future(call(rate, calls, number, 0.5)) for number in range(5)]
        staying = asyncio.ensure_future(call(rate, calls, 5, None))
        await asyncio.gather(*gone, staying)
        assert calls.passed == {5: pytest.approx(1)}

    run(main())


def test_a_turn_that_would_come_too_late_is_refused_at_once():
    async def main() -> None:
        rate, calls = Rate(2, 3), Calls()
        tasks = [asyncio.ensure_future(call(rate, calls, number, None)) for number in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert set(calls.refused.values()) == {0}
        assert len(calls.refused) == 12
        await asyncio.gather(*tasks)
        assert sorted(calls.passed) == list(range(8))

    run(main())


def test_ten_thousand_waiting_calls_cost_little():
    async def main() -> None:
        rate, calls = Rate(100, 1000), Calls()
        await asyncio.gather(*(call(rate, calls, number, None) for number in range(10_000)))
        assert len(calls.passed) == 10_000

    began = time.process_time()
    run(main())
    assert time.process_time() - began < 5

"""The order in which workers of `make test` take test files."""

from pathlib import Path

from tests.spreading import DURATIONS, IN_EACH_CLOUD, OF_ALL_CLOUDS, next_of, place_in_order

UNIT, OTHER = "tests/unit/access/test_model.py", "tests/integration/localcloud/test_judge.py"
EACH = [f"{IN_EACH_CLOUD}[0]", f"{IN_EACH_CLOUD}[1]"]
LAST = [*EACH, OF_ALL_CLOUDS]


def test_the_longest_files_are_first_and_the_unit_tests_come_after_all_that_need_a_cloud():
    files = sorted(DURATIONS, key=lambda file: (-DURATIONS[file], file))
    waiting = [*LAST, UNIT, *reversed(files), OTHER]
    order = []
    while (chosen := next_of(waiting, [])) not in LAST:
        assert chosen is not None
        order.append(chosen)
        waiting.remove(chosen)
    assert order == [*files, OTHER, UNIT]


def test_each_worker_looks_into_its_own_cloud_when_nothing_else_is_left():
    assert next_of([*LAST, UNIT], []) == UNIT
    assert next_of(LAST, [UNIT]) == EACH[0]
    assert next_of([EACH[1], OF_ALL_CLOUDS], [UNIT]) == EACH[1]


def test_one_worker_judges_what_all_have_used_and_leaves_the_clouds_of_the_others_to_them():
    assert next_of([EACH[1], OF_ALL_CLOUDS], [UNIT, EACH[0]]) == OF_ALL_CLOUDS
    assert next_of([EACH[1]], [UNIT, EACH[0]]) is None


def test_all_files_that_are_named_exist():
    root = Path(__file__).parents[2]
    named = [*DURATIONS, IN_EACH_CLOUD, OF_ALL_CLOUDS]
    assert [name for name in named if not (root / name).exists()] == []


def test_one_process_runs_them_in_the_same_order():
    assert sorted([OF_ALL_CLOUDS, UNIT, IN_EACH_CLOUD, OTHER], key=place_in_order) == [
        UNIT,
        OTHER,
        IN_EACH_CLOUD,
        OF_ALL_CLOUDS,
    ]

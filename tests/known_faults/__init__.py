"""Tests of what is known to be wrong: each asserts what is right, and fails until that is so.

`make known-faults` runs them; `make test` and `.ci/run` leave them out. The marker `known_fault` names the finding or
case and its subject. A test that passes is reported as a failure: its fault is fixed, so it loses the marker and moves
to the tests of its subject. `pytest -m known_fault --runxfail` shows how one fails.
"""

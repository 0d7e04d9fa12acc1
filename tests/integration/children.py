"""Processes of tests that are forked from one that has one thread only, and has imported what they need."""

import multiprocessing

CHILDREN = multiprocessing.get_context("forkserver")
_modules: list[str] = []


def preload(module: str) -> None:
    """Have the fork server import a module when it starts, which is after all tests were collected."""
    _modules.append(module)
    CHILDREN.set_forkserver_preload(_modules)

"""Patches of moto: what a patch is, and the one place that applies them."""

from __future__ import annotations

import functools
import importlib.metadata
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

_REPLACES, _ADDS = "replaces", "adds"


class PatchFailed(Exception):
    """moto is not what the patches were written for; the message lists every difference."""


class Patch:
    """One of moto's classes or modules, and what localcloud changes of it.

    A method marked with `replaces` takes the place of moto's method of that name. It is called with moto's method and
    moto's object before the arguments. A method marked with `adds` is one that moto does not have; it is called with
    moto's object before the arguments.
    """

    #: Dotted name of the class or module.
    target: str
    #: Attributes that moto has, each with a function from moto's value to the new one.
    changed_values: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    #: Attributes that moto does not have, with their values.
    new_values: ClassVar[Mapping[str, Any]] = {}

    def names(self) -> Iterator[str]:
        """Yield the dotted name of each attribute that the patch sets."""
        attributes = [*self.changed_values, *self.new_values, *self._methods(_REPLACES), *self._methods(_ADDS)]
        return (f"{self.target}.{name}" for name in attributes)

    def problems(self) -> Iterator[str]:
        """Yield the differences between moto and what the patch was written for."""
        try:
            owner = pkgutil.resolve_name(self.target)
        except (ImportError, AttributeError):
            yield f"{self.target} no longer exists"
            return
        for name in (*self.changed_values, *self._methods(_REPLACES)):
            if not hasattr(owner, name):
                yield f"{self.target}.{name} no longer exists"
        for name in (*self.new_values, *self._methods(_ADDS)):
            if hasattr(owner, name):
                yield f"{self.target}.{name} exists already"

    def apply(self) -> None:
        """Change moto; `apply_patches` checks first that this is possible."""
        owner = pkgutil.resolve_name(self.target)
        for name, change in self.changed_values.items():
            setattr(owner, name, change(getattr(owner, name)))
        for name, value in self.new_values.items():
            setattr(owner, name, value)
        for name in self._methods(_REPLACES):
            setattr(owner, name, _replacement(getattr(self, name), getattr(owner, name)))
        for name in self._methods(_ADDS):
            setattr(owner, name, _addition(getattr(self, name)))

    def _methods(self, mark: str) -> list[str]:
        return [name for name in dir(self) if getattr(getattr(self, name), "patch_mark", None) == mark]


def replaces[F: Callable[..., Any]](method: F) -> F:
    """Mark a method of a patch that takes the place of moto's method of the same name."""
    method.patch_mark = _REPLACES  # type: ignore[attr-defined]
    return method


def adds[F: Callable[..., Any]](method: F) -> F:
    """Mark a method of a patch that moto does not have."""
    method.patch_mark = _ADDS  # type: ignore[attr-defined]
    return method


def apply_patches(patches: Iterable[Patch]) -> None:
    """Change moto for the whole process. Call once, before moto's first request.

    :raises PatchFailed: moto has changed, or two patches set the same attribute. Nothing was patched.
    """
    table = tuple(patches)
    problems = [problem for patch in table for problem in patch.problems()]
    times = Counter(name for patch in table for name in patch.names())
    problems += [f"{name} is patched {number} times" for name, number in times.items() if number > 1]
    if problems:
        version = importlib.metadata.version("moto")
        raise PatchFailed(
            f"the patches of localcloud/moto_patches do not fit moto {version}: {'; '.join(problems)}. "
            "Adapt the patches, or install the version of moto that requirements-dev.txt names."
        )
    for patch in table:
        patch.apply()


def _replacement(method: Callable[..., Any], original: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def replacement(moto_object: Any, *args: Any, **kwargs: Any) -> Any:
        return method(original, moto_object, *args, **kwargs)

    return replacement


def _addition(method: Callable[..., Any]) -> Callable[..., Any]:
    def addition(moto_object: Any, *args: Any, **kwargs: Any) -> Any:
        return method(moto_object, *args, **kwargs)

    return addition

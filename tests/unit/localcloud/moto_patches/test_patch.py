"""Patches of moto: applied together, or refused with the list of all differences."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from localcloud.moto_patches.patch import Patch, PatchFailed, adds, apply_patches, replaces
from localcloud.moto_patches.rotations import Rotations
from localcloud.moto_patches.table import patches
from tests.unit.localcloud.moto_patches import fake_moto

FAKE = "tests.unit.localcloud.moto_patches.fake_moto"


class Greetings(Patch):
    """Changes of a class that stands for one of moto's."""

    target = f"{FAKE}.Backend"
    changed_values: ClassVar = {"limit": lambda original: original + 1}
    new_values: ClassVar = {"language": "en"}

    def __init__(self, ending: str = "!") -> None:
        self._ending = ending

    @replaces
    def greet(self, original: Any, backend: Any, name: str) -> str:
        return f"{original(backend, name)}{self._ending}"

    @adds
    def dismiss(self, backend: Any, name: str) -> str:
        return f"bye {name}, says {backend.name}"


@pytest.fixture(autouse=True)
def backend_class(monkeypatch):
    """Return a fresh class for each test."""
    original = fake_moto.Backend
    monkeypatch.setattr(fake_moto, "Backend", type("Backend", (), dict(vars(original))))


def with_target(target: str) -> Patch:
    patch = Greetings()
    patch.target = target
    return patch


def test_a_patch_replaces_and_adds_methods_and_values():
    apply_patches([Greetings()])
    backend: Any = fake_moto.Backend()
    assert backend.greet("Ada") == "hello Ada!"
    assert backend.dismiss("Ada") == "bye Ada, says moto"
    assert (backend.limit, backend.language) == (11, "en")


def test_a_class_that_moto_no_longer_has_is_an_error():
    with pytest.raises(PatchFailed, match=rf"do not fit moto \d[\d.]*: {FAKE}\.Gone no longer exists\. Adapt"):
        apply_patches([with_target(f"{FAKE}.Gone")])


def test_a_module_that_moto_no_longer_has_is_an_error():
    with pytest.raises(PatchFailed, match=r"moto\.gone\.models\.Backend no longer exists"):
        apply_patches([with_target("moto.gone.models.Backend")])


@pytest.mark.parametrize("name", ["greet", "limit"])
def test_an_attribute_that_moto_no_longer_has_is_an_error(name):
    delattr(fake_moto.Backend, name)
    with pytest.raises(PatchFailed, match=rf"Backend\.{name} no longer exists"):
        apply_patches([Greetings()])


@pytest.mark.parametrize("name", ["dismiss", "language"])
def test_an_addition_that_moto_has_by_now_is_an_error(name):
    setattr(fake_moto.Backend, name, None)
    with pytest.raises(PatchFailed, match=rf"Backend\.{name} exists already"):
        apply_patches([Greetings()])


def test_two_patches_of_one_attribute_are_an_error():
    with pytest.raises(PatchFailed, match=r"Backend\.greet is patched 2 times"):
        apply_patches([Greetings(), Greetings("?")])


def test_nothing_is_patched_if_one_patch_does_not_fit():
    with pytest.raises(PatchFailed, match=r"Gone\b.*"):
        apply_patches([Greetings(), with_target(f"{FAKE}.Gone")])
    assert fake_moto.Backend().greet("Ada") == "hello Ada"


def test_the_message_lists_every_difference():
    del fake_moto.Backend.greet
    with pytest.raises(PatchFailed, match=r"Backend\.greet no longer exists; .*Gone no longer exists"):
        apply_patches([Greetings(), with_target(f"{FAKE}.Gone")])


def test_the_table_fits_the_installed_moto():
    table = patches(SimpleNamespace(), lambda *_: None, Rotations(lambda *_: True, lambda *_: None))  # type: ignore[arg-type]
    assert [problem for patch in table for problem in patch.problems()] == []
    names = [name for patch in table for name in patch.names()]
    assert len(names) == len(set(names)) > 60

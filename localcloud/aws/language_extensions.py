"""Expansion of `Fn::ForEach`, as the transform AWS::LanguageExtensions does it before SAM's.

AWS's translator and moto know no loops, so that localcloud, scans and tests read the form that this module writes.
It supports the forms that template.yaml uses: loops over literal lists in Resources, loops in loops, and the loop's
identifier in logical ids, in `Ref`, and in `Fn::Sub`. Everything else is an error, also where other tools are more
lenient than CloudFormation.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

_TRANSFORM = "AWS::LanguageExtensions"
_PREFIX = "Fn::ForEach::"
_PLACEHOLDER = re.compile(r"\$\{([\w:.]+)\}")
#: CloudFormation can't resolve these and an identifier in one Fn::Sub.
_LATE = {"AWS::StackName", "AWS::StackId", "AWS::NotificationARNs"}


class UnsupportedLoop(Exception):
    """A loop that CloudFormation or this module doesn't support."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


def expand_loops(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the template with its loops written out, without the transform and the mappings of the loops.

    :raises UnsupportedLoop: a loop has a form that isn't supported.
    """
    expanded = copy.deepcopy(dict(template))
    transforms = expanded.get("Transform", [])
    listed = transforms if isinstance(transforms, list) else [transforms]
    for section, content in expanded.items():
        if section != "Resources":
            for key in _loops_in(content):
                raise UnsupportedLoop(key, f"a loop in {section} (only Resources may have loops); write it out")
    if _TRANSFORM not in listed:
        for key in _loops_in(expanded.get("Resources", {})):
            raise UnsupportedLoop(key, f"the template lacks the transform; put {_TRANSFORM} first under Transform")
        return expanded
    if listed[0] != _TRANSFORM:
        raise UnsupportedLoop("Transform", f"{_TRANSFORM} isn't the first transform; CloudFormation applies it first")
    others = listed[1:]
    expanded["Transform"] = others[0] if len(others) == 1 else others
    writer = _Writer(expanded.get("Mappings", {}), set(expanded.get("Parameters", {})))
    expanded["Resources"] = writer.fragment(expanded["Resources"], {}, "Resources")
    needed = set(_mappings_in(expanded["Resources"])) | set(_mappings_in(expanded.get("Outputs", {})))
    for name in writer.consulted - needed:
        del expanded["Mappings"][name]
    return expanded


class _Writer:
    """Writes fragments out, for given values of identifiers."""

    def __init__(self, mappings: Mapping[str, Any], parameters: set[str]) -> None:
        self._mappings = mappings
        self._parameters = parameters
        self.consulted: set[str] = set()

    def fragment(self, fragment: Mapping[str, Any], values: Mapping[str, str], place: str) -> dict[str, Any]:
        """Return the entries of a fragment, loops in it written out, by their final keys."""
        entries: dict[str, Any] = {}
        for key, body in fragment.items():
            if key.startswith(_PREFIX):
                found = self._loop(key, body, values)
            elif values:
                if not any(f"${{{identifier}}}" in key for identifier in values):
                    raise UnsupportedLoop(place, f"the key {key} has no identifier, so that all its copies are one")
                found = {_filled(key, values): self._entry(body, values, f"{place}, {key}")}
            else:
                for loop in _loops_in(body):
                    raise UnsupportedLoop(loop, f"a loop inside of {key}; only whole resources may be repeated")
                found = {key: body}
            if twice := sorted(set(found) & set(entries)):
                raise UnsupportedLoop(key, f"{', '.join(twice)} is there already; keys must be unique")
            entries |= found
        return entries

    def _loop(self, key: str, loop: Any, values: Mapping[str, str]) -> dict[str, Any]:
        match loop:
            case [str(identifier), collection, dict(fragment)]:
                pass
            case _:
                raise UnsupportedLoop(key, "isn't a list of an identifier, a collection and a fragment")
        if not re.fullmatch(r"[A-Za-z0-9]+", identifier) or identifier in self._parameters | set(values):
            raise UnsupportedLoop(key, f"the identifier {identifier} isn't alphanumeric, or names something else too")
        if not isinstance(collection, list) or not all(isinstance(each, str) for each in collection) or not collection:
            raise UnsupportedLoop(key, "the collection isn't a literal list of strings; write the list down")
        entries: dict[str, Any] = {}
        for value in collection:
            found = self.fragment(fragment, {**values, identifier: value}, key)
            if twice := sorted(set(found) & set(entries)):
                raise UnsupportedLoop(key, f"{', '.join(twice)} comes out twice; keys must be unique")
            entries |= found
        return entries

    def _entry(self, body: Any, values: Mapping[str, str], place: str) -> Any:
        if isinstance(body, dict) and next(iter(body), "") == "Condition":
            raise UnsupportedLoop(place, "Condition is the first key, which CloudFormation refuses; put Type first")
        for loop in _loops_in(body):
            raise UnsupportedLoop(loop, f"a loop inside of {place}; only whole resources may be repeated")
        return self._value(body, values, place)

    def _value(self, value: Any, values: Mapping[str, str], place: str) -> Any:
        """Return a value with identifiers replaced, and with the functions resolved that are known then."""
        match value:
            case {"Ref": str(name)} if len(value) == 1:
                return values.get(name, {"Ref": self._text(name, values, place)})
            case {"Ref": {"Fn::Sub": _} as name} if len(value) == 1:
                return {"Ref": self._known(name, values, place)}
            case {"Fn::Sub": text} if len(value) == 1:
                return self._sub(text, values, place)
            case {"Fn::GetAtt": [name, attribute]} if len(value) == 1:
                return {"Fn::GetAtt": [self._known(each, values, place) for each in (name, attribute)]}
            case {"Fn::FindInMap": [*keys]} if len(value) == 1:
                return self._find([self._value(each, values, place) for each in keys], place)
            case dict():
                return {self._text(key, values, place): self._value(each, values, place) for key, each in value.items()}
            case list():
                return [self._value(each, values, place) for each in value]
            case str():
                return self._text(value, values, place)
            case _:
                return value

    def _text(self, text: str, values: Mapping[str, str], place: str) -> str:
        if used := [name for name in values if f"${{{name}}}" in text or f"&{{{name}}}" in text]:
            raise UnsupportedLoop(place, f"{text} has ${{{used[0]}}} outside of Fn::Sub, which stays; write !Sub")
        return text

    def _known(self, value: Any, values: Mapping[str, str], place: str) -> str:
        name = self._value(value, values, place)
        if not isinstance(name, str):
            raise UnsupportedLoop(place, f"{value} is no name once the identifiers are known; use identifiers only")
        return name

    def _sub(self, argument: Any, values: Mapping[str, str], place: str) -> Any:
        text, variables = argument if isinstance(argument, list) else (argument, {})
        names = set(_PLACEHOLDER.findall(text))
        if names & set(values) and (late := sorted(names & _LATE)):
            raise UnsupportedLoop(place, f"{text} has {late[0]} and an identifier, which CloudFormation can't resolve")
        text = _filled(text, values)
        left: dict[str, Any] = {}
        for name, variable in variables.items():
            match self._value(variable, values, place):
                case {"Fn::GetAtt": [str(resource), str(attribute)]}:
                    text = text.replace(f"${{{name}}}", f"${{{resource}.{attribute}}}")
                case {"Ref": str(resource)}:
                    text = text.replace(f"${{{name}}}", f"${{{resource}}}")
                case str() | int() as known:
                    text = text.replace(f"${{{name}}}", str(known))
                case other:
                    left[name] = other
        if left:
            return {"Fn::Sub": [text, left]}
        return {"Fn::Sub": text} if _PLACEHOLDER.search(text) else text

    def _find(self, keys: list[Any], place: str) -> Any:
        if len(keys) != 3 or not all(isinstance(each, str) for each in keys):
            return {"Fn::FindInMap": keys}
        name, first, second = keys
        try:
            value = self._mappings[name][first][second]
        except KeyError as error:
            raise UnsupportedLoop(place, f"the mapping {name} has no value for {first}, {second}; add it") from error
        self.consulted.add(name)
        return copy.deepcopy(value)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def _loops_in(value: Any) -> Iterator[str]:
    """Yield the keys of all loops in a value."""
    if isinstance(value, dict):
        for key, each in value.items():
            if str(key).startswith(_PREFIX):
                yield key
            yield from _loops_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _loops_in(each)


def _mappings_in(value: Any) -> Iterator[str]:
    """Yield the names of the mappings that a value refers to."""
    if isinstance(value, dict):
        match value:
            case {"Fn::FindInMap": [str(name), *_]}:
                yield name
        for each in value.values():
            yield from _mappings_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _mappings_in(each)

"""Reads YAML as strictly as a file of permissions deserves, and remembers the line of every key and item."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from rdsiam.core.similar import did_you_mean
from rdsiam.errors import AccessFileInvalid

#: A position in the file: keys and indexes from the top, such as `("databases", 0, "users")`.
Path = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 16
_MAX_PROBLEMS = 100


class Document(NamedTuple):
    """The content of a file as plain data, and where it stands.

    :ivar data: dicts with text as keys, lists, text, whole numbers, booleans and None. Times are text.
    """

    data: object
    lines: dict[Path, int]

    def problem(self, path: Path, text: str) -> tuple[int, str]:
        """Return the line of `path`, or of the nearest thing around it, and the problem with line and key."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, 1)
        return line, f"line {line}: {_name(path)}: {text}"


def read(text: str) -> Document:
    """Read one YAML document.

    Anchors, aliases, tags, merge keys, duplicate keys and further documents are refused: whoever reviews the file
    must see what it says. Keys are text as they are written, also `on`, which YAML 1.1 takes for a boolean.

    :raises AccessFileInvalid: with every problem found, in the order of lines.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise AccessFileInvalid(["line 1: the file is not valid Unicode"]) from None
    if size > MAX_BYTES:
        raise AccessFileInvalid([f"line 1: the file is larger than {MAX_BYTES:,} bytes"])
    reader = _Reader(text)
    try:
        reader.read()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        # The error's own text quotes the line, which might hold anything.
        raise AccessFileInvalid([*reader.found(), f"line {line}: not valid YAML: {error.problem}"]) from None
    except yaml.YAMLError:
        raise AccessFileInvalid(["line 1: not valid YAML: a character that YAML does not allow"]) from None
    fail(reader.problems)
    return reader.document


def fail(problems: Iterable[tuple[int, str]]) -> None:
    """Raise AccessFileInvalid with the problems in the order of lines; do nothing if there are none."""
    texts = [text for _, text in sorted(set(problems))]
    _fail(texts[:_MAX_PROBLEMS], len(texts) - _MAX_PROBLEMS)


def refuse(
    document: Document,
    errors: Sequence[Mapping[str, Any]],
    keys: Collection[str],
    words: Mapping[str, Collection[str]],
) -> None:
    """Raise AccessFileInvalid with the first of pydantic's errors, in the order of lines.

    Only the errors that are shown are explained: guessing what an unknown key was meant to be takes a tenth of a
    millisecond, and a file of 1 MB holds 50,000 unknown keys.

    :param keys: all keys that the file may have somewhere.
    :param words: key → the words that its value may consist of.
    """
    shown = {_explain(document, error, keys, words) for error in errors[:_MAX_PROBLEMS]}
    _fail([text for _, text in sorted(shown)], len(errors) - _MAX_PROBLEMS)


def _fail(texts: list[str], left_out: int) -> None:
    if left_out > 0:
        texts.append(f"and {left_out} more")
    if texts:
        raise AccessFileInvalid(texts)


def _explain(
    document: Document, error: Mapping[str, Any], keys: Collection[str], words: Mapping[str, Collection[str]]
) -> tuple[int, str]:
    """Turn one of pydantic's errors into line and problem, without the value."""
    path: list[str | int] = []
    at = document.data
    for part in error["loc"]:
        if (isinstance(at, dict) and part in at) or (isinstance(at, list) and isinstance(part, int) and part < len(at)):
            at = at[part]
        elif isinstance(part, int) or part.startswith("["):
            continue  # pydantic's way into what we let people write without a list, or in two forms
        path.append(part)
    kind, text = error["type"], error["msg"].removeprefix("Value error, ")
    advice = ""
    if kind == "extra_forbidden":
        text = "unknown key"
        advice = did_you_mean(str(path[-1]), set(keys) - {path[-1]})  # the key itself may be one of another place
    elif kind == "literal_error":
        allowed = _LITERAL.findall(text)
        text, advice = f"must be one of {', '.join(allowed)}", _advice(at, allowed)
    elif kind == "value_error" and path:
        advice = _advice(at, words.get(str(path[-1]), ()))
    text = _WORDS.get(kind, text)
    return document.problem(tuple(path), f"{text}; {advice}" if advice else text)


def _advice(value: object, allowed: Collection[str]) -> str:
    """Return the allowed word that was probably meant by a word, or by the first wrong one of a list; or nothing."""
    given = value if isinstance(value, list) else [value]
    known = {word.lower() for word in allowed}
    wrong = next((word for word in given if isinstance(word, str) and word.lower() not in known), "")
    return did_you_mean(wrong, allowed) if wrong else ""


class _Reader:
    """Builds plain data from the parser's events, which still tell anchors, aliases and tags."""

    def __init__(self, text: str) -> None:
        self.problems: list[tuple[int, str]] = []
        self.document = Document(None, {})
        self._loader = _LOADER(text)

    def found(self) -> list[str]:
        return [text for _, text in sorted(self.problems)]

    def read(self) -> None:
        self._loader.get_event()  # start of stream
        if isinstance(self._loader.peek_event(), yaml.StreamEndEvent):
            self._report((), 1, "is empty")
            return
        self._loader.get_event()  # start of document
        self.document = Document(self._value(()), self.document.lines)
        self._loader.get_event()  # end of document
        following = self._loader.peek_event()
        if not isinstance(following, yaml.StreamEndEvent):
            self._report((), following.start_mark.line + 1, "a second document is not allowed")

    def _value(self, path: Path) -> object:
        event = self._loader.get_event()
        line = event.start_mark.line + 1
        self.document.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            self._report(path, line, "aliases are not allowed; write it out")
            return None
        if event.anchor is not None:
            self._report(path, line, "anchors are not allowed")
        if event.tag is not None:
            self._report(path, line, "tags are not allowed")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path, line)
        if len(path) >= MAX_DEPTH:
            self._report(path, line, "nested too deeply")
            fail(self.problems)  # going on would mean to trust the stack
        return self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: Path) -> dict[str, object]:
        result: dict[str, object] = {}
        while not isinstance(self._loader.peek_event(), yaml.MappingEndEvent):
            event = self._loader.peek_event()
            line = event.start_mark.line + 1
            plain = isinstance(event, yaml.ScalarEvent) and event.anchor is None and event.tag is None
            if not plain:
                self._report(path, line, "keys must be plain text")
                self._value((*path, "?"))
                self._value((*path, "?"))
                continue
            key = self._loader.get_event().value
            if key in result:
                self._report((*path, key), line, "duplicate key")
            self.document.lines[*path, key] = line
            result[key] = self._value((*path, key))
        self._loader.get_event()
        return result

    def _sequence(self, path: Path) -> list[object]:
        result: list[object] = []
        while not isinstance(self._loader.peek_event(), yaml.SequenceEndEvent):
            result.append(self._value((*path, len(result))))
        self._loader.get_event()
        return result

    def _scalar(self, event: yaml.ScalarEvent, path: Path, line: int) -> object:
        kind = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit).rpartition(":")[2]
        if kind == "null":
            # An `until:` left blank must not read as "for ever".
            self._report(path, line, "has no value; leave the key out")
            return None
        if kind == "bool":
            return event.value.lower() in ("true", "yes", "on")
        if kind in ("int", "float"):
            # No key takes anything but a short decimal number: of others only the type matters.
            return int(event.value) if re.fullmatch("[0-9]{1,9}", event.value) else 0.0
        return event.value

    def _report(self, path: Path, line: int, text: str) -> None:
        self.problems.append((line, f"line {line}: {_name(path)}: {text}"))
        if len(self.problems) > _MAX_PROBLEMS:
            raise AccessFileInvalid([*self.found()[:_MAX_PROBLEMS], "and perhaps more"])


_WORDS = {
    "missing": "is missing",
    "string_type": "must be text; put it in quotes if it is",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "bool_type": "must be true or false",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
#: A value in pydantic's list of those that are allowed.
_LITERAL = re.compile(r"'([^']*)'")

#: libyaml where PyYAML was built with it: ten times faster, the same events.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _name(path: Path) -> str:
    """Write a path as people do: `databases[0].users[1].name`; odd keys quoted and shortened."""
    name = ""
    for part in path:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            key = part if re.fullmatch(r"[A-Za-z0-9_.:/-]{1,64}", part) else json.dumps(part[:64])
            name += f".{key}" if name else key
    return name or "the file"

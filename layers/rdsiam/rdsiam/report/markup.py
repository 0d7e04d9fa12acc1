"""HTML and SVG that no content can break: text is escaped here, and nowhere else."""

import html
import re
from collections.abc import Mapping

from rdsiam.report.formatting import pieces

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
#: Elements that can run, load or send something.
_REFUSED = frozenset({"script", "style", "iframe", "object", "embed", "link", "meta", "base", "form", "img", "image"})

Attribute = str | int | float | bool | None


class Markup(str):
    """Text that is HTML already. Made by the functions of this module and from the files of the package."""

    __slots__ = ()


def join(*parts: "str | Markup") -> Markup:
    """Return parts one after the other; plain text is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in parts))


def element(tag: str, attributes: Mapping[str, Attribute] | None = None, *children: "str | Markup") -> Markup:
    """Return an element.

    :param attributes: True gives an attribute without a value; None and False leave it out.
    :param children: plain text is escaped.
    :raises ValueError: an element or attribute could run, load or style something. The content security policy would
        refuse it as well.
    """
    if not _NAME.fullmatch(tag) or tag.lower() in _REFUSED:
        raise ValueError(f"no element {tag!r} in a report")
    return Markup(f"<{tag}{_attributes(attributes or {})}>{join(*children)}</{tag}>")


def name(text: str) -> Markup:
    """Return a foreign name, isolated from the text direction around it, with hidden characters visible."""
    return Markup(f"<bdi>{''.join(_piece(mark, shown) for mark, shown in pieces(text))}</bdi>")


def _piece(mark: bool, shown: str) -> str:
    return f'<span class="mark">{html.escape(shown)}</span>' if mark else html.escape(shown)


def _attributes(attributes: Mapping[str, Attribute]) -> str:
    return "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )


def _attribute(key: str, value: Attribute) -> str:
    loads = key.lower() in {"style", "src", "srcset", "action", "formaction", "xlink:href"}
    elsewhere = key.lower() == "href" and not str(value).startswith("#")
    if not _NAME.fullmatch(key) or key.lower().startswith("on") or loads or elsewhere:
        raise ValueError(f"no attribute {key!r} of this value in a report")
    return f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'

"""The way a MySQL or MariaDB server reads the names of schemas: as names or as patterns, with or without case."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Maximum number of characters of a schema's name, and of the text that names it in a grant.
LONGEST = 64
#: Characters that Python makes lower case in another way than the server: it knows a second sigma and an i with a dot.
_LOWER = str.maketrans({"Σ": "σ", "İ": "i"})
_PARTS, _ESCAPED = re.compile(r"\\.|.", re.DOTALL), re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class SchemaNames:
    """Two settings of a server, without which the name of a schema in a grant can't be read or written.

    :ivar literal: the name of a schema in a grant is that name: MySQL with `partial_revokes`, as on Aurora MySQL 3.
        Otherwise it is a pattern, in which `_` and `%` are wildcards unless they are escaped.
    :ivar lower_case: names differ by more than case, and grants have them in lower case: `lower_case_table_names`.
    """

    literal: bool = False
    lower_case: bool = False

    def stored(self, name: str) -> str:
        """Return the name, or the pattern, as the server compares it."""
        return name.translate(_LOWER).lower() if self.lower_case else name

    def pattern(self, name: str) -> str:
        r"""Return the text that GRANT and REVOKE need for one schema: my_app as a pattern would cover myXapp too."""
        stored = self.stored(name)
        if self.literal:
            return stored
        return stored.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")

    def grantable(self, name: str) -> bool:
        """Tell whether GRANT accepts the pattern for a schema: a long name with many escaped characters is too long."""
        return len(self.pattern(name)) <= LONGEST

    def plain(self, pattern: str) -> str:
        r"""Return the schema that a grant names. A pattern my_app or my\_app covers the schema of that name."""
        stored = self.stored(pattern)
        if self.literal or "\\" not in stored:
            return stored
        return _ESCAPED.sub(r"\1", stored)

    def covers(self, pattern: str, schema: str) -> bool:
        r"""Tell whether a grant on `pattern` covers a schema: % stands for any characters, _ for one, unless escaped.

        Compared without case, since it guards the server's own schemas.
        """
        if self.literal:
            return pattern.lower() == schema.lower()
        if pattern[:1] not in {"%", "_", "\\"} and pattern[:1].lower() != schema[:1].lower():
            return False  # most schemas
        return _matches(_PARTS.findall(pattern.lower()), schema.lower())


def _matches(parts: Sequence[str], text: str) -> bool:
    """Tell whether the parts of a pattern match a text, in linear time but for the repetitions of %.

    A regular expression would have to be compiled for each pattern.
    """
    part = position = 0
    after_percent, tried = -1, 0
    while position < len(text):
        if part < len(parts) and parts[part] == "%":
            part += 1
            after_percent, tried = part, position
        elif part < len(parts) and parts[part] in {"_", text[position], "\\" + text[position]}:
            part += 1
            position += 1
        elif after_percent >= 0:
            tried += 1
            part, position = after_percent, tried
        else:
            return False
    return all(rest == "%" for rest in parts[part:])


#: Names are patterns and have case, as on most servers.
PATTERNS = SchemaNames()

"""The way a MySQL or MariaDB server reads the names of schemas: as names or as patterns, with or without case."""

import re
from dataclasses import dataclass


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
        return name.lower() if self.lower_case else name

    def pattern(self, name: str) -> str:
        r"""Return the text that GRANT and REVOKE need for one schema: my_app as a pattern would cover myXapp too."""
        stored = self.stored(name)
        if self.literal:
            return stored
        return stored.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")

    def plain(self, pattern: str) -> str:
        r"""Return the schema that a grant names. A pattern my_app or my\_app covers the schema of that name."""
        stored = self.stored(pattern)
        if self.literal or "\\" not in stored:
            return stored
        return re.sub(r"\\(.)", r"\1", stored, flags=re.DOTALL)

    def covers(self, pattern: str, schema: str) -> bool:
        r"""Tell whether a grant on `pattern` covers a schema: % stands for any characters, _ for one, unless escaped.

        Compared without case, since it guards the server's own schemas.
        """
        if self.literal:
            return pattern.lower() == schema.lower()
        parts = re.findall(r"\\.|%|_|.", pattern, re.DOTALL)
        expression = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
        return re.fullmatch(expression, schema, re.IGNORECASE | re.DOTALL) is not None


#: Names are patterns and have case, as on most servers.
PATTERNS = SchemaNames()

"""The page's table of findings by kind: for paper, and for readers without a script."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from rdsiam.core.counts import number
from rdsiam.report import figures
from rdsiam.report.markup import Markup, element, join, name

_HEAD = ("Finding", "Severity", "Findings", "Databases")


class Titled(Protocol):
    """Texts about a kind of findings; `page.KindText`."""

    @property
    def title(self) -> str:
        """A few words."""


def kinds(report: Mapping[str, Any], texts: Mapping[str, Titled]) -> Markup:
    """Return the table of open findings, worst first; empty if there are none."""
    open_findings = [finding for finding in report["findings"] if not finding["suppressed"]]
    if not open_findings:
        return join()
    counts = Counter((figures.order(finding)[0], finding["severity"], finding["kind"]) for finding in open_findings)
    rows = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, name(texts[kind].title if kind in texts else kind)),
            element("td", None, name(severity)),
            element("td", None, number(count)),
            element("td", None, number(databases) if (databases := _databases(report, kind, severity)) else "IAM"),
        )
        for (_, severity, kind), count in sorted(counts.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0][2]))
    ]
    head = element("tr", None, *(element("th", {"scope": "col"}, each) for each in _HEAD))
    return element(
        "section",
        {"class": "kinds", "aria-labelledby": "kinds-title"},
        element("h2", {"id": "kinds-title"}, "Findings by kind"),
        element(
            "div",
            {"class": "table-frame", "role": "region", "aria-label": "Findings by kind", "tabindex": 0},
            element("table", None, element("thead", None, head), element("tbody", None, *rows)),
        ),
    )


def _databases(report: Mapping[str, Any], kind: str, severity: str) -> int:
    """Return the number of databases with open findings of a kind."""
    return len(
        {
            finding["database"]
            for finding in report["findings"]
            if (finding["kind"], finding["severity"]) == (kind, severity)
            and finding["database"]
            and not finding["suppressed"]
        }
    )

"""The report of an audit in the shapes that others read: JSON, CSV, one HTML page, Security Hub's and OCSF's findings.

All of them are pure functions of the report as a dictionary, whose shape is `document.Report`.
"""

from rdsiam.report.document import json_report, json_schema
from rdsiam.report.ocsf import ocsf, ocsf_lines
from rdsiam.report.page import KindText, html_chunks, html_report
from rdsiam.report.security_hub import asff, batches, suppressions
from rdsiam.report.table import csv_report

__all__ = [
    "KindText",
    "asff",
    "batches",
    "csv_report",
    "html_chunks",
    "html_report",
    "json_report",
    "json_schema",
    "ocsf",
    "ocsf_lines",
    "suppressions",
]

"""The report of an audit in the shapes that others read: JSON, CSV, one HTML page, Security Hub's and OCSF's findings.

All of them are pure functions of the report as a dictionary (`document.Report`), and read nothing else.
"""

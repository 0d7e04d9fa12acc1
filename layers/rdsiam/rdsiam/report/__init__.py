"""One audit as HTML, CSV, JSON, OCSF and ASFF: pure functions of the report, a `document.Report`."""

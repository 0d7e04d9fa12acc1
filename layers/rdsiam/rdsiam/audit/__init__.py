"""The audit: how every account of every database can log in, the problems of that, and their remediation.

    fleet → facts (engines read them, as rdsiam_auditor) → findings (evaluated, no I/O) → report

Facts and findings are plain data.
"""

"""The audit: what every account of every database can log in with, what is wrong with that, and what mends it.

    fleet → facts (engines read them, as rdsiam_auditor) → findings (judged, no I/O) → report

`facts` and `findings` are data, and what everything else here hands on.
"""

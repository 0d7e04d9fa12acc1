"""`python -m rdsiam.command` is the same as `rdsiam`."""

from rdsiam.command import main

main()

"""`python -m localcloud.judge` installs what the judge needs."""

from localcloud.judge.install import install

install()

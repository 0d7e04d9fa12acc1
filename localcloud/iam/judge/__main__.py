"""`python -m localcloud.iam.judge` installs what the judge needs."""

from localcloud.iam.judge.install import install

install()

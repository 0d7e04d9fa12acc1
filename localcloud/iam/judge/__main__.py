"""`python -m localcloud.iam.judge` installs the judge's packages."""

from localcloud.iam.judge.install import install

install()

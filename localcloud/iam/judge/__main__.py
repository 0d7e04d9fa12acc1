"""`python -m localcloud.iam.judge` installs the judge's packages."""

import sys

from localcloud.iam.judge.install import install

try:
    install()
except RuntimeError as error:
    sys.exit(f"{error}")

"""The garbage collector while VendFunction loads its modules."""

import subprocess
import sys

from tests.unit.test_structure import ROOT

_SCRIPT = """
import gc
collections = []
gc.callbacks.append(lambda phase, info: collections.append(phase))
import app
print(len(collections), gc.isenabled(), gc.get_freeze_count() > 10_000)
"""


def test_vendfunction_loads_without_collections_and_leaves_the_collector_on():
    path = f"{ROOT / 'layers' / 'rdsiam'}:{ROOT / 'functions' / 'vend'}"
    output = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env={"PYTHONPATH": path, "AWS_REGION": "eu-west-1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output == "0 True True\n"

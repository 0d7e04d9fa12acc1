"""Measures the proxy alone: `python -m bench.proxy`."""

import sys

from bench.proxy import benchmark
from bench.result import show

if __name__ == "__main__":
    sys.exit(show(benchmark.run()))

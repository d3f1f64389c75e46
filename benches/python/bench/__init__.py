"""Benchmarks of DiskCache RS beside other caches, through Python.

`python -m bench --help` says what there is; `./ci/bench` runs it in the project's environment.
"""

"""The package that python-diskcache's tests are imported from."""

"""Modules that the benchmark scripts share; `make bench` does not run them."""

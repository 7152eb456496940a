"""What the benchmark scripts share; `make bench` does not run this folder."""

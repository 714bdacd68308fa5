"""Figures against the rivals, taken in the same run. See ``benchmarks/README.md``."""

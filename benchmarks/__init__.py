"""Measurements, each with its target: run ``python -m benchmarks.NAME``."""

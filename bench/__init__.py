"""Benchmarks: `python -m bench [--quick] [NAME ...]`, a small module for each, each figure beside its bare baseline."""

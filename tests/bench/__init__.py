"""Benchmarks: what DESIGN promises in numbers, measured on a real control plane.

`make bench` runs them (tools/bench.py); docs/benchmarks/ says what each figure means. They must not know how the
operator works inside: they see requests, objects, processes and /metrics.
"""

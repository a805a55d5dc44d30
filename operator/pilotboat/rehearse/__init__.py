"""Rehearsals: declared faults against a deployment of the user's choosing, under load, with what was promised and what
was measured. The command, the benchmark and the tests run on this.
"""

"""The two custom resources and everything that both sides of a pod must agree on.

Owns: field names, bounds, defaults, conditions, reasons, labels, the files the operator writes and the images read.
Must not know: the cluster, the clock, kopf. Nothing here does I/O.
"""

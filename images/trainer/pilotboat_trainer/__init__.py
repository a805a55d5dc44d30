"""The trainer: fine-tunes a base model on a data set and publishes an adapter or a model, once, whole and proven.

Owns: training. Must not know: the cluster, the operator, where the base and the data came from.
"""

"""The init container `fetch`: brings models and data sets into a folder, verified, or says in one reason why not.

Owns: acquisition. Must not know: what a model or a data set is used for, the cluster, the operator.
"""

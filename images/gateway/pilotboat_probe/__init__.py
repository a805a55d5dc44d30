"""The probe: asks a canary and its stable fellow, and tells the operator in counts how they answered.

Owns: measuring. Must not know: what a figure means for a rollout, the cluster, the operator.
"""

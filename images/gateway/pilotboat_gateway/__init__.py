"""The data plane of a namespace: HAProxy, and the agent that tells it what the API server says.

Owns: how traffic is split, and the evidence of what became of it. Must not know: when shares change, or what evidence
means (the operator's plan).
"""

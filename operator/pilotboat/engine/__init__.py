"""What makes plans come true: the view of the cluster, the queue, and every request to the API server.

Owns: store, queue, reconcile, apply, resync, leader, events, metrics, health, the progress receiver.
Must not know: what a model deployment needs (plan decides), nor kopf (wiring hands events in).
"""

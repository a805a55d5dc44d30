"""Pilotboat: a Kubernetes operator for language models."""

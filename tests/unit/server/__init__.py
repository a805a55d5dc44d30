"""Unit tests of the inference server: its pure parts, and the whole of it over the fake engine."""

"""Measurement: each file reads as its own description."""

"""Offline: historical logs, made-up click streams, and pre-training."""

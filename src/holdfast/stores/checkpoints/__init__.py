"""Checkpoints: what an agent was about, kept at every step at the cost of what changed."""

"""Layers: one concern each, wrapped around a Driver, forwarding everything else."""

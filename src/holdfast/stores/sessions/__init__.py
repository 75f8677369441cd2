"""Sessions: runs of an agent, and the one canonical conversation that it keeps short."""

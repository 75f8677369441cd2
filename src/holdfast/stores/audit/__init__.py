"""Audit: an append-only log whose records betray any change to them."""

"""Followers of the store's journal: what changes is fed to them, in order, never to be skipped."""

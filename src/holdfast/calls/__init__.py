"""Calls: how the async facade runs plain calls, in threads that keep off an event loop's time."""

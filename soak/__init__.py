"""Reliability campaigns: real failures in long counts, each beside a saboteur it must catch."""

"""Reliability campaigns: long counts of real failures, each beside a saboteur that it must catch."""

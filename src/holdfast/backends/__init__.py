"""Engines: each turns the contract's values into one kind of storage."""

"""Conversations: who takes part, what was said, and finding it again."""

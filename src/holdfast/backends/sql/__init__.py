"""What SQL engines share: a planner from contract values to statements, and their dialects."""

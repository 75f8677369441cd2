"""Recall: models, fusion and the recipe that turns scores into one order."""

"""Descriptions that are run on a real pool, and what each has to bring back."""

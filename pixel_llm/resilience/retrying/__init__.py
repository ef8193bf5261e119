"""Trying again, on tenacity: when, how often, and within which budget."""

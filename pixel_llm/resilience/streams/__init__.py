"""Iterators, sync and async, through a stack."""

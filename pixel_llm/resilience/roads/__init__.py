"""The ways of a call through its stack: the guards, what they are bound to, and limits in async code."""

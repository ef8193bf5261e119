"""Results that are kept, and calls that share one."""

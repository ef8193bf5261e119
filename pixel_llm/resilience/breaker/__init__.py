"""The circuit breaker, on pybreaker: states, windows, keys."""

"""What attempts wait for before they begin: rate limit and bulkhead."""

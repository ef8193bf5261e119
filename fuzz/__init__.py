"""A mutation fuzzer over the policy loader: whatever a file holds, it loads or it is a PolicyError with places."""

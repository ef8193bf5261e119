"""What serves when a call has failed for good."""

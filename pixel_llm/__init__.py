"""pixel-llm."""

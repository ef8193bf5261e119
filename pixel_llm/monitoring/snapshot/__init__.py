"""All that the stacks know at a moment: immutable, consistent, as JSON and back."""

"""What writes and checks the documentation, and what the project's own commands share. Not part of the package."""

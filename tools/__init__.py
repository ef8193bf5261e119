"""What writes and checks the documentation. Not part of the package."""

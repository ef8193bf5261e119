"""Another attempt beside one that takes long."""

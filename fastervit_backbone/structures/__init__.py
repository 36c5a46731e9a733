"""What a model found in an image."""

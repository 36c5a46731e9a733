"""Pictures of predictions, annotations and attention, and the colors of classes."""

"""Training, evaluation and prediction behind the tools."""

"""Speed, memory and cost of models."""

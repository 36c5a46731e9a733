"""Speed, memory and cost."""

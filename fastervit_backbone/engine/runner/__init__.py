"""The runner, its loops, and everything that makes a run resumable."""

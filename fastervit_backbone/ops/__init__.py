"""mmcv's operators where they need help."""

"""mmcv's operators: on torchvision where mmcv has none of its own, and in float32 under bfloat16."""

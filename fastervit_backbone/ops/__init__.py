"""Patches of mmcv's operators."""

"""Predictions and their COCO format."""

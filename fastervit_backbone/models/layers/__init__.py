"""Plain-torch layers of FasterViT: nothing here imports an mm package or timm."""

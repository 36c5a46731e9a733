"""FasterViT in plain torch."""

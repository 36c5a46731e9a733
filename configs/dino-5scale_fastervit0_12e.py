_base_ = './_base_/dino_5scale.py'  # the base already uses FasterViT-0

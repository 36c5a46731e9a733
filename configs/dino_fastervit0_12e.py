_base_ = './_base_/dino_4scale.py'  # the base already uses FasterViT-0

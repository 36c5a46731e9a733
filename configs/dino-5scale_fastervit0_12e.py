_base_ = './_base_/dino_5scale.py'  # which has FasterViT-0

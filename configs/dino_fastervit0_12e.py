_base_ = './_base_/dino_4scale.py'  # which has FasterViT-0

_base_ = './_base_/mask2former_50e.py'  # the base already uses FasterViT-0

_base_ = './_base_/mask2former-panoptic_50e.py'  # the base already uses FasterViT-0

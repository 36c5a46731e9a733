_base_ = './_base_/mask2former-semantic_160k.py'  # the base already uses FasterViT-0

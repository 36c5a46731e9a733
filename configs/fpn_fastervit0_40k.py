_base_ = './_base_/fpn_40k.py'  # the base already uses FasterViT-0

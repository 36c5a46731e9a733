_base_ = './_base_/cascade_3x.py'  # the base already uses FasterViT-0

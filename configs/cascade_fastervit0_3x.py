_base_ = './_base_/cascade_3x.py'  # which has FasterViT-0

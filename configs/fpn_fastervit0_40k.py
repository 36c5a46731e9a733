_base_ = './_base_/fpn_40k.py'  # which has FasterViT-0

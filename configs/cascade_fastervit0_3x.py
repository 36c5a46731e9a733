_base_ = './_base_/cascade_fastervit_3x.py'  # which has FasterViT-0

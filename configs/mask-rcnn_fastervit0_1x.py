_base_ = './_base_/mask-rcnn_1x.py'  # which has FasterViT-0

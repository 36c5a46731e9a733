_base_ = './_base_/mask-rcnn_1x.py'  # the base already uses FasterViT-0

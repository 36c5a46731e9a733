_base_ = './_base_/retinanet_1x.py'  # the base already uses FasterViT-0

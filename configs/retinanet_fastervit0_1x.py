_base_ = './_base_/retinanet_1x.py'  # which has FasterViT-0

_base_ = './_base_/faster-rcnn_voc0712.py'  # the base already uses FasterViT-0

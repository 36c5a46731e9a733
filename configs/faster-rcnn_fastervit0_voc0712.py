_base_ = './_base_/faster-rcnn_voc0712.py'  # which has FasterViT-0

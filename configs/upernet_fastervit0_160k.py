_base_ = './_base_/upernet_160k.py'  # which has FasterViT-0

_base_ = './_base_/upernet_160k.py'  # the base already uses FasterViT-0

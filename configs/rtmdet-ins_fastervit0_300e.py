_base_ = './_base_/rtmdet-ins_300e.py'  # the base already uses FasterViT-0

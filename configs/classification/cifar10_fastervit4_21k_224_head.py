_base_ = '../_base_/cifar10.py'

model = dict(backbone=dict(arch='4_21k_224', frozen_stages=5), head=dict(in_channels=1568))
load_from = 'https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_4_21k_224_w14.pth.tar'

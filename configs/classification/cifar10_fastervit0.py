_base_ = '../_base_/cifar10.py'

load_from = 'https://huggingface.co/ahatamiz/FasterViT/resolve/main/fastervit_0_224_1k.pth.tar'

_base_ = './cifar10_nano.py'

model = dict(backbone=dict(frozen_stages=5))

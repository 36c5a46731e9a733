# Only the linear layer learns: no other weight and no BatchNorm statistic changes.
_base_ = './cifar10_fastervit0.py'

model = dict(backbone=dict(frozen_stages=5))

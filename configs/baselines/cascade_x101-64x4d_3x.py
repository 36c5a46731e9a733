_base_ = './cascade_x101-32x4d_3x.py'

model = dict(backbone=dict(groups=64, init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d')))

# timm's ResNet-18 from nothing beside cifar10_nano.
_base_ = '../classification/cifar10_nano.py'

model = dict(
    backbone=dict(_delete_=True, type='TimmBackbone', model_name='resnet18', out_indices=(4,)),
    head=dict(in_channels=512),
)

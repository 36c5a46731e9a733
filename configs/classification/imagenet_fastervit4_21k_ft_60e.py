# The second part of appendix B: 60 epochs at 7e-5 on ImageNet-1K, from imagenet21k_fastervit4_90e.
_base_ = ['../_base_/imagenet.py', '../_base_/imagenet_ft.py']

model = dict(backbone=dict(arch='4_21k_224', drop_path_rate=0.3), head=dict(in_channels=1568))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=60, eta_min=1e-6, by_epoch=True, end=60, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=60)

# the published crop: 224 of the whole image squeezed to 236x236
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(236, 236), backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

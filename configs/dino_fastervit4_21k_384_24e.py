_base_ = './dino_fastervit4_21k_384_12e.py'

train_cfg = dict(max_epochs=24)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[20], gamma=0.1)]

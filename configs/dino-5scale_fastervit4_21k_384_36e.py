_base_ = './dino-5scale_fastervit4_21k_384_12e.py'

train_cfg = dict(max_epochs=36)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[30], gamma=0.1)]

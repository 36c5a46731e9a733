# Fine-tuning on ImageNet-1K: a short cosine schedule, no MESA. Name the weights to start from:
# --cfg-options load_from=FILE
_base_ = './imagenet_300e.py'

optim_wrapper = dict(optimizer=dict(lr=7e-5, weight_decay=0.05))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='EMAHook', momentum=2e-4, update_buffers=True, priority='ABOVE_NORMAL')]

# Additional loggers: add this file to `_base_` and write in your config
# `visualizer = dict(vis_backends={{_base_.log_to_tensorboard}})` (docs/analyse.md).
log_to_tensorboard = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
log_to_wandb = [
    dict(type='LocalVisBackend'),
    dict(type='WandbVisBackend', init_kwargs=dict(project='fastervit')),
]

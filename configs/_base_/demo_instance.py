# Shared by the demos of instance segmentation on the shapes dataset.
_base_ = ['mmdet::_base_/default_runtime.py', './shapes_instance.py', './demo_schedule.py']

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(max_keep_ckpts=2))

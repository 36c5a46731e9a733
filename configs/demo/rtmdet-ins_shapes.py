# RTMDet-Ins with the nano backbone on the shapes dataset (`make demo-all`).
_base_ = ['../_base_/rtmdet-ins_small.py', '../_base_/demo_instance.py']
custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

optim_wrapper = dict(clip_grad=dict(max_norm=10))

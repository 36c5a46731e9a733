# Mask2Former with the nano backbone on the shapes dataset's label maps (`make demo-all`).
_base_ = ['../_base_/mask2former-semantic_small.py', '../_base_/demo_semantic.py']
custom_imports = dict(imports=['fastervit_backbone', 'mmdet.models'], allow_failed_imports=False)

optim_wrapper = dict(optimizer=dict(lr=1e-3))

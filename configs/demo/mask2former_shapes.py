# Mask2Former with the nano backbone on the shapes dataset (`make demo-all`).
_base_ = ['../_base_/mask2former_small.py', '../_base_/demo_instance.py']
custom_imports = dict(imports=['fastervit_backbone'], allow_failed_imports=False)

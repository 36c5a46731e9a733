# The demo's model with one block a stage: the time of an export goes with the number of blocks.
_base_ = '../../configs/demo/cascade_shapes.py'
shallow = dict(_delete_=True, dim=32, stem_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
model = dict(backbone=dict(arch=shallow))

"""What the config of a published folder may hold, as tables; :mod:`.data_only` reads it."""

import re

#: Keys of a published config.
KEYS = (
    *('default_scope', 'custom_imports', 'model'),
    *('test_dataloader', 'test_evaluator', 'test_cfg'),
)
SCOPES = ('mmdet', 'mmseg', 'mmpretrain', 'mmengine', 'mmcv')
#: What ``custom_imports`` may name.
IMPORTS = ('fastervit_backbone', 'mmdet.models', 'mmseg.models', 'mmpretrain.models')
#: Modules whose registered classes a model may consist of.
MODULES = re.compile(
    r'(torch\.nn|mmcv\.(cnn|ops)|mmengine\.(model|utils\.dl_utils\.parrots_wrapper)|fastervit_backbone'
    r'|mmdet\.models\.(backbones|necks|dense_heads|roi_heads|seg_heads|mask_heads|detectors|layers|losses|utils'
    r'|data_preprocessors|task_modules\.(assigners|samplers|coders|prior_generators))'
    r'|mmseg\.models\.(backbones|necks|decode_heads|segmentors|losses|utils|data_preprocessor|assigners)'
    r'|mmpretrain\.models\.(backbones|necks|heads|classifiers|losses|utils))(\.|$)'
)
#: Of these, modules whose classes read files or download when they are built.
READERS = re.compile(
    r'mmdet\.models\.(detectors\.(d2_wrapper|glip|grounding_dino|kd_one_stage|lad)'
    r'|dense_heads\.(atss_vlfusion_head|grounding_dino_head))'
    r'|mmseg\.models\.backbones\.(timm_backbone|vpd)'
    r'|mmpretrain\.models\.(backbones\.timm_backbone|classifiers\.(timm|hugging_face)|heads\.vqa_head'
    r'|utils\.(huggingface|tokenizer|vector_quantizer))'
)
#: Section -> types in it.
NAMES = dict(
    test_dataloader=frozenset(
        'LoadImageFromFile LoadAnnotations LoadPanopticAnnotations Resize ResizeEdge FixScaleResize '
        'FixShapeResize '
        'ResizeShortestEdge ResizeToMultiple Pad Normalize CenterCrop EfficientNetCenterCrop '
        'PackDetInputs PackSegInputs PackInputs '
        'CocoDataset CocoPanopticDataset LVISV05Dataset LVISV1Dataset VOCDataset XMLDataset ConcatDataset '
        'LabelMapDataset ADE20KDataset BaseSegDataset CityscapesDataset PascalVOCDataset '
        'ImageFolderDataset CustomDataset ImageNet ImageNet21k CIFAR10 CIFAR100 '
        'DefaultSampler pseudo_collate default_collate'.split()
    ),
    test_evaluator=frozenset(
        'CocoMetric CocoPanopticMetric PanopticMetric LVISMetric VOCMetric IoUMetric Accuracy '
        'SingleLabelMetric'.split()
    ),
    test_cfg=frozenset({'TestLoop'}),
)
#: Parent -> types that mmengine's registries lack: functions and operators of mmcv, mixtures of mmpretrain.
FUNCTIONS = dict(
    nms=('nms', 'soft_nms', 'nms_match'),
    nms_cfg=('nms', 'soft_nms', 'nms_match'),
    roi_layer=('RoIAlign', 'RoIPool'),
    augments=('Mixup', 'CutMix', 'ResizeMix'),
)
#: Section -> keys that take a word. Of all keys of the toolkits' own configs these open no file.
TEXTS = dict(
    model=frozenset(
        'add_extra_convs aggregation arch attention_type bbox_reg_loss_type block bottleneck_type box_format '
        'ffn_type fusion_types input_transform interpolate_mode interpolation iou_mode log_scale loss_name '
        'method mode model_name norm order out_norm out_type padding_mode paths pooling_type position '
        'psa_type readout_type reduction refine_type stdc_type style upsample_method'.split()
    ),
    test_dataloader=frozenset(
        'ann_file data_root sub_data_root data_prefix img img_path seg seg_map_path folders img_suffix '
        'seg_map_suffix backend imdecode_backend color_type dtype edge interpolation padding_mode '
        'meta_keys'.split()
    ),
    test_evaluator=frozenset('ann_file seg_prefix eval_mode iou_metrics metric metric_items average'.split()),
    test_cfg=frozenset(),
)
#: Options of metrics that write files.
WRITES = ('outfile_prefix', 'output_dir', 'format_only', 'collect_dir', 'dump_matches')
#: Options that only say where initial weights come from; a published folder has the trained ones.
DROPPED = ('init_cfg', 'pretrained')
WORD = re.compile(r'[\w+-]{0,64}')
#: Key -> form of its text, where that is no word.
FORMS = dict(
    ann_file=re.compile(r'([\w-]{1,64}\.(json|txt))?'),
    img_suffix=re.compile(r'[\w-]{0,16}\.\w{1,8}'),
    seg_map_suffix=re.compile(r'[\w-]{0,16}\.\w{1,8}'),
    model_name=re.compile(r'\w{1,64}(\.\w{1,64})?'),
    folders=re.compile(r'(?!\.{1,2}$)[^/\\\0]{1,255}'),  # names of classes
)
#: Largest integer, and of options that make as many layers, anchors or images.
MAX_INTEGER, MAX_NUMBER = 10**5, 1e9
MOST = dict(num_outs=16, scales_per_octave=32, num_stages=16, num_convs=64, batch_size=256)
MAX_BYTES = 4_000_000

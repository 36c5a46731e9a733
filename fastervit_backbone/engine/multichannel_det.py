"""mmdet's preprocessor for any number of channels. Importing this module imports mmdet."""

from mmdet.models.data_preprocessors import DetDataPreprocessor

from .multichannel import AnyChannels


class MultiChannelDetDataPreprocessor(AnyChannels, DetDataPreprocessor):
    """``DetDataPreprocessor`` for any number of channels; its own options are kept."""

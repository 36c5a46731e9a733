"""mmseg's preprocessor for any number of channels. Importing this module imports mmseg."""

from mmseg.models import SegDataPreProcessor

from .multichannel import AnyChannels


class MultiChannelSegDataPreProcessor(AnyChannels, SegDataPreProcessor):
    """``SegDataPreProcessor`` for any number of channels; its own options are kept."""

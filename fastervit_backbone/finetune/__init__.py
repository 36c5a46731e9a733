"""Fine-tuning: from a user's data set to a plan, an editable config and a trained model."""

from .run import FinetuneResult, finetune

__all__ = ['FinetuneResult', 'finetune']

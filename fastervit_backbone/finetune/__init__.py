"""From data of your own to a trained model: what to train, decided from the data and the machine, as a config that can be edited."""

from .run import Finetuned, finetune

__all__ = ['Finetuned', 'finetune']

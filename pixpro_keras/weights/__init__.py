"""Weights in and out: load, convert, export, publish."""

from pixpro_keras.weights.card import CARD_FILE, write_card
from pixpro_keras.weights.export import FORMATS, check_format, export_backbone
from pixpro_keras.weights.load import load_backbone

__all__ = [
    "CARD_FILE",
    "FORMATS",
    "check_format",
    "export_backbone",
    "load_backbone",
    "write_card",
]

"""Exports of a trained backbone."""

from pixpro_keras.export.backbone import FORMATS, check_format, export_backbone
from pixpro_keras.export.card import CARD_FILE, write_card

__all__ = ["CARD_FILE", "FORMATS", "check_format", "export_backbone", "write_card"]

"""Exports of a trained backbone."""

from pixpro_keras.export.backbone import FORMATS, check_format, export_backbone

__all__ = ["FORMATS", "check_format", "export_backbone"]

"""Exports of a trained backbone."""

from pixpro_keras.export.keras_files import FORMATS, export_backbone

__all__ = ["FORMATS", "export_backbone"]

"""Sources of images: folders, TFDS, TFRecord files, the embedded scenes, and several of them joined."""

from pixpro_keras.data.sources.folder import IMAGE_EXTENSIONS, iterate_images, number_classes
from pixpro_keras.data.sources.opener import open_source, split_specification
from pixpro_keras.data.sources.source import Source
from pixpro_keras.data.sources.specification import Openers
from pixpro_keras.data.sources.tfds import TFDSRecords, prepare_tfds
from pixpro_keras.data.sources.tfrecord import RecordFiles

__all__ = [
    "IMAGE_EXTENSIONS",
    "Openers",
    "RecordFiles",
    "Source",
    "TFDSRecords",
    "iterate_images",
    "number_classes",
    "open_source",
    "prepare_tfds",
    "split_specification",
]

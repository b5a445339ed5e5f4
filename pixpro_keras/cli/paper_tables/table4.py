"""Table 4: the pixel loss, the instance loss (SimCLR*), and both."""

from pixpro_keras.cli.paper_tables.definition import Row, Table

TABLE_4 = Table(
    4,
    "pixel-level and instance-level pre-training, and both",
    (
        Row("PixPro", "pixpro", {"voc": (58.8,), "coco_fpn": (40.8,), "imagenet": (55.1,)}),
        Row("SimCLR*", "simclrstar", {"voc": (53.4,), "coco_fpn": (40.5,), "imagenet": (65.4,)}),
        Row(
            "PixPro + SimCLR*",
            "pixpro_simclrstar",
            {"voc": (58.7,), "coco_fpn": (40.9,), "imagenet": (66.3,)},
        ),
        Row("PixContrast across images (ours)", "other_images", {}),
        Row("PixContrast across images + SimCLR* (ours)", "other_images_simclrstar", {}),
    ),
    ("voc", "coco_fpn", "imagenet"),
)

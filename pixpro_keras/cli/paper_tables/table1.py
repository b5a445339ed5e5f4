"""Table 1: PixPro beside supervised and instance-level pre-training."""

from pixpro_keras.cli.paper_tables.definition import Row, Table

# The FPN column of PixPro is of a pre-training with FPN and instance branch.
TABLE_1 = Table(
    1,
    "comparison with the state of the art",
    (
        Row(
            "scratch",
            "scratch",
            {
                "voc": (33.8, 60.2, 33.1),
                "coco_fpn": (32.8, 51.0, 35.3),
                "coco_c4": (26.4, 44.0, 27.8),
                "cityscapes": (65.3,),
            },
        ),
        Row(
            "supervised, 100 epochs",
            "supervised",
            {
                "voc": (53.5, 81.3, 58.8),
                "coco_fpn": (39.7, 59.5, 43.3),
                "coco_c4": (38.2, 58.2, 41.2),
                "cityscapes": (74.6,),
            },
        ),
        Row(
            "MoCo, 200 epochs",
            "moco",
            {
                "voc": (55.9, 81.5, 62.6),
                "coco_fpn": (39.4, 59.1, 43.0),
                "coco_c4": (38.5, 58.3, 41.6),
                "cityscapes": (75.3,),
            },
        ),
        Row(
            "SimCLR, 1000 epochs",
            "simclr",
            {
                "voc": (56.3, 81.9, 62.5),
                "coco_fpn": (39.8, 59.5, 43.6),
                "coco_c4": (38.4, 58.3, 41.6),
                "cityscapes": (75.8,),
            },
        ),
        Row(
            "MoCo v2, 800 epochs",
            "mocov2",
            {
                "voc": (57.6, 82.7, 64.4),
                "coco_fpn": (40.4, 60.1, 44.3),
                "coco_c4": (39.5, 59.0, 42.6),
                "cityscapes": (76.2,),
            },
        ),
        Row(
            "InfoMin, 200 epochs",
            "infomin",
            {
                "voc": (57.6, 82.7, 64.6),
                "coco_fpn": (40.6, 60.6, 44.6),
                "coco_c4": (39.0, 58.5, 42.0),
                "cityscapes": (75.6,),
            },
        ),
        Row(
            "InfoMin, 800 epochs",
            "infomin_800",
            {
                "voc": (57.5, 82.5, 64.0),
                "coco_fpn": (40.4, 60.4, 44.3),
                "coco_c4": (38.8, 58.2, 41.7),
                "cityscapes": (75.6,),
            },
        ),
        Row(
            "PixPro, 100 epochs",
            "pixpro",
            {
                "voc": (58.8, 83.0, 66.5),
                "coco_fpn": (41.3, 61.3, 45.4),
                "coco_c4": (40.0, 59.3, 43.4),
                "cityscapes": (76.8,),
            },
            instead={"coco_fpn": "pixpro_fpn"},
        ),
        Row(
            "PixPro, 400 epochs",
            "pixpro_400",
            {
                "voc": (60.2, 83.8, 67.7),
                "coco_fpn": (41.4, 61.6, 45.4),
                "coco_c4": (40.5, 59.8, 44.0),
                "cityscapes": (77.2,),
            },
            instead={"coco_fpn": "pixpro_fpn_400"},
        ),
        Row("PixContrast across images + SimCLR* (ours)", "other_images_simclrstar", {}),
    ),
    ("voc", "coco_fpn", "coco_c4", "cityscapes"),
)

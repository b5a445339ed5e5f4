"""Tables of the paper that compare pre-trainings, with its numbers."""

from pixpro_keras.cli.paper_tables.definition import Row, Table

_TABLES = (
    Table(
        1,
        "comparison with the state of the art",
        ("voc", "coco_fpn", "coco_c4", "cityscapes"),
        (
            Row(
                "scratch",
                "scratch",
                ((33.8, 60.2, 33.1), (32.8, 51.0, 35.3), (26.4, 44.0, 27.8), (65.3,)),
            ),
            Row(
                "supervised, 100 epochs",
                "supervised",
                ((53.5, 81.3, 58.8), (39.7, 59.5, 43.3), (38.2, 58.2, 41.2), (74.6,)),
            ),
            Row(
                "MoCo, 200 epochs",
                "moco",
                ((55.9, 81.5, 62.6), (39.4, 59.1, 43.0), (38.5, 58.3, 41.6), (75.3,)),
            ),
            Row(
                "SimCLR, 1000 epochs",
                "simclr",
                ((56.3, 81.9, 62.5), (39.8, 59.5, 43.6), (38.4, 58.3, 41.6), (75.8,)),
            ),
            Row(
                "MoCo v2, 800 epochs",
                "mocov2",
                ((57.6, 82.7, 64.4), (40.4, 60.1, 44.3), (39.5, 59.0, 42.6), (76.2,)),
            ),
            Row(
                "InfoMin, 200 epochs",
                "infomin",
                ((57.6, 82.7, 64.6), (40.6, 60.6, 44.6), (39.0, 58.5, 42.0), (75.6,)),
            ),
            Row(
                "InfoMin, 800 epochs",
                "infomin_800",
                ((57.5, 82.5, 64.0), (40.4, 60.4, 44.3), (38.8, 58.2, 41.7), (75.6,)),
            ),
            # The FPN column of PixPro is of a pre-training with FPN and instance branch.
            Row(
                "PixPro, 100 epochs",
                "pixpro",
                ((58.8, 83.0, 66.5), (41.3, 61.3, 45.4), (40.0, 59.3, 43.4), (76.8,)),
                instead={"coco_fpn": "pixpro_fpn"},
            ),
            Row(
                "PixPro, 400 epochs",
                "pixpro_400",
                ((60.2, 83.8, 67.7), (41.4, 61.6, 45.4), (40.5, 59.8, 44.0), (77.2,)),
                instead={"coco_fpn": "pixpro_fpn_400"},
            ),
            Row("PixContrast across images + SimCLR* (ours)", "other_images_simclrstar"),
        ),
    ),
    Table(
        3,
        "PixContrast and PixPro, with and without PPM",
        ("voc", "coco_fpn"),
        (
            Row("PixContrast, tau 0.1", "pixcontrast_tau01", ((54.7, 79.9, 61.2), (38.0,))),
            Row("PixContrast, tau 0.2", "pixcontrast_tau02", ((57.1, 81.7, 63.3), (38.6,))),
            Row("PixContrast, tau 0.3", "pixcontrast_tau03", ((58.1, 82.4, 64.5), (38.8,))),
            Row(
                "PixContrast + PPM, tau 0.1", "pixcontrast_ppm_tau01", ((52.7, 78.8, 57.6), (37.4,))
            ),
            Row(
                "PixContrast + PPM, tau 0.2", "pixcontrast_ppm_tau02", ((53.0, 79.1, 58.1), (37.3,))
            ),
            Row(
                "PixContrast + PPM, tau 0.3", "pixcontrast_ppm_tau03", ((52.9, 78.8, 58.3), (37.5,))
            ),
            Row("PixPro, no PPM", "pixpro_noppm", ((58.0, 82.6, 65.6), (39.7,))),
            Row("PixPro", "pixpro", ((58.8, 83.0, 66.5), (40.8,))),
            Row("PixContrast across images (ours)", "other_images"),
        ),
    ),
    Table(
        4,
        "pixel-level and instance-level pre-training, and both",
        ("voc", "coco_fpn", "imagenet"),
        (
            Row("PixPro", "pixpro", ((58.8,), (40.8,), (55.1,))),
            Row("SimCLR*", "simclrstar", ((53.4,), (40.5,), (65.4,))),
            Row("PixPro + SimCLR*", "pixpro_simclrstar", ((58.7,), (40.9,), (66.3,))),
            Row("PixContrast across images (ours)", "other_images"),
            Row("PixContrast across images + SimCLR* (ours)", "other_images_simclrstar"),
        ),
    ),
)

TABLES = {table.number: table for table in _TABLES}

"""Table 3: PixContrast and PixPro, with and without the propagation module (PPM)."""

from pixpro_keras.cli.paper_tables.definition import Row, Table

TABLE_3 = Table(
    3,
    "PixContrast and PixPro, with and without PPM",
    (
        Row(
            "PixContrast, tau 0.1",
            "pixcontrast_tau01",
            {"voc": (54.7, 79.9, 61.2), "coco_fpn": (38.0,)},
        ),
        Row(
            "PixContrast, tau 0.2",
            "pixcontrast_tau02",
            {"voc": (57.1, 81.7, 63.3), "coco_fpn": (38.6,)},
        ),
        Row(
            "PixContrast, tau 0.3",
            "pixcontrast_tau03",
            {"voc": (58.1, 82.4, 64.5), "coco_fpn": (38.8,)},
        ),
        Row(
            "PixContrast + PPM, tau 0.1",
            "pixcontrast_ppm_tau01",
            {"voc": (52.7, 78.8, 57.6), "coco_fpn": (37.4,)},
        ),
        Row(
            "PixContrast + PPM, tau 0.2",
            "pixcontrast_ppm_tau02",
            {"voc": (53.0, 79.1, 58.1), "coco_fpn": (37.3,)},
        ),
        Row(
            "PixContrast + PPM, tau 0.3",
            "pixcontrast_ppm_tau03",
            {"voc": (52.9, 78.8, 58.3), "coco_fpn": (37.5,)},
        ),
        Row("PixPro, no PPM", "pixpro_noppm", {"voc": (58.0, 82.6, 65.6), "coco_fpn": (39.7,)}),
        Row("PixPro", "pixpro", {"voc": (58.8, 83.0, 66.5), "coco_fpn": (40.8,)}),
        Row("PixContrast across images (ours)", "other_images", {}),
    ),
    ("voc", "coco_fpn"),
)

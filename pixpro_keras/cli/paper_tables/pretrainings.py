"""The pre-trainings of all tables."""

from pixpro_keras.cli.paper_tables.definition import Pretraining

# At small scale methods differ by these flags only. Their queues have to be shorter than a data set of a
# few thousand images, and their targets faster than a few hundred steps.
_SHORT_QUEUE = "--queue_size=2048 --base_momentum=0.99"
# Not in the paper: the pixels of all other images as negatives.
_OTHER_IMAGES = "--method=pixcontrast --temperature=0.2 --negatives=other_images"
_SIMCLRSTAR = "--instance_weight=1 --instance_form=contrastive"

_PRETRAININGS = [
    Pretraining("scratch", None),
    Pretraining(
        "supervised",
        "supervised_r50_100ep",
        "--method=supervised --augmentation=supervised --optimizer=sgd --base_learning_rate=0.1 "
        "--weight_decay=1e-4 --dataset={labeled}",
        note="learns from labeled images alone, fewer than the others see",
    ),
    Pretraining("moco", "moco_r50_200ep", f"--method=moco --augmentation=instdisc {_SHORT_QUEUE}"),
    Pretraining("simclr", "simclr_r50_1000ep", "--method=simclr --augmentation=simclr"),
    Pretraining(
        "mocov2", "mocov2_r50_800ep", f"--method=mocov2 --augmentation=mocov2 {_SHORT_QUEUE}"
    ),
    Pretraining(
        "infomin", "infomin_r50_200ep", f"--method=infomin --augmentation=infomin {_SHORT_QUEUE}"
    ),
    Pretraining("infomin_800", "infomin_r50_800ep", None),
    Pretraining("pixpro", "pixpro_r50_100ep", "--method=pixpro"),
    Pretraining("pixpro_400", "pixpro_r50_400ep", None),
    Pretraining("pixpro_fpn", "pixpro_fpn_r50_100ep", None),
    Pretraining("pixpro_fpn_400", "pixpro_fpn_r50_400ep", None),
    Pretraining("pixpro_noppm", "pixpro_noppm_r50_100ep", "--method=pixpro --nopropagation"),
    *(
        Pretraining(
            f"pixcontrast{part}_tau0{tenths}",
            f"pixcontrast{part}_tau0{tenths}_r50_100ep",
            f"--method=pixcontrast --temperature=0.{tenths} {flags}",
        )
        for part, flags in (("", ""), ("_ppm", "--propagation"))
        for tenths in (1, 2, 3)
    ),
    Pretraining(
        "simclrstar", "simclrstar_r50_100ep", f"--method=pixpro --pixel_weight=0 {_SIMCLRSTAR}"
    ),
    Pretraining(
        "pixpro_simclrstar", "pixpro_simclrstar_r50_100ep", f"--method=pixpro {_SIMCLRSTAR}"
    ),
    Pretraining("other_images", None, _OTHER_IMAGES),
    Pretraining("other_images_simclrstar", None, f"{_OTHER_IMAGES} {_SIMCLRSTAR}"),
]

PRETRAININGS = {one.name: one for one in _PRETRAININGS}

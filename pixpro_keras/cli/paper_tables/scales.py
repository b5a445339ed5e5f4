"""Scales of a table's jobs: the paper's, one for two CPU cores, and one that only tests that they run.

`{data}` stands for `--data`, `{labeled}` for the scale's images with labels.
"""

from pixpro_keras.cli.paper_tables.definition import Scale, Transfer

_PRETRAIN = "--flagfile=experiments/configs/pretrain"
_TRANSFER = "--flagfile=experiments/configs/transfer"
_AP = ("AP", "AP50", "AP75")
_MIOU = ("mIoU", "pixel accuracy")
_TOP = ("top-1", "top-5")

PAPER = Scale(
    "paper",
    "The paper's own recipes on ImageNet-1k, ResNet-50; 8 GPUs.",
    None,
    (
        Transfer(
            "voc",
            "VOC R50-C4",
            "detect",
            f"{_TRANSFER}/voc_c4_24k.cfg --dataset=voc:{{data}}/voc",
            _AP,
            "voc",
        ),
        Transfer(
            "coco_fpn",
            "COCO R50-FPN",
            "detect",
            f"{_TRANSFER}/coco_fpn_1x.cfg --dataset=coco:{{data}}/coco",
            _AP,
            "coco_fpn",
        ),
        Transfer(
            "coco_c4",
            "COCO R50-C4",
            "detect",
            f"{_TRANSFER}/coco_c4_1x.cfg --dataset=coco:{{data}}/coco",
            _AP,
            "coco_c4",
        ),
        Transfer(
            "cityscapes",
            "Cityscapes",
            "segment",
            f"{_TRANSFER}/cityscapes_fcn.cfg --dataset=cityscapes:{{data}}/cityscapes",
            ("mIoU",),
            "cityscapes",
        ),
        Transfer(
            "imagenet",
            "ImageNet linear",
            "linear_probe",
            f"{_TRANSFER}/linear_imagenet.cfg",
            ("top-1",),
            "imagenet",
        ),
    ),
    scratch="--backbone=resnet50_v1_5",
    data_flags="--data_dir={data}/tfds",
)

# Measured on two cores with AVX2, beside other small jobs: 16 minutes for PixPro's pre-training, then 2, 5 to
# 7, 9 to 11, 10 and 2 for the transfers.
# Pre-trainings and frozen evaluations use maps with an output stride of 16.
_SHORT_DETECTION = "--iterations=120 --warmup_iterations=12 --keep_checkpoints=1"
SMALL = Scale(
    "small",
    "ResNet-18 on 3,387 photographs (of ImageNet, CamVid and Caltech-101), 7x7 maps, the same images, steps "
    "and batch in each row; transfers to CamVid, BCCD, Penn-Fudan and Caltech-101. Far from the paper's "
    "scale: its numbers stand beside ours for their order only.",
    f"{_PRETRAIN}/tables_small.cfg --dataset=folder:{{data}}/imagenet_sample"
    "+folder:{data}/camvid/train/images+folder:{data}/caltech101/train",
    (
        Transfer(
            "cells",
            "CamVid, frozen",
            "segment",
            f"{_TRANSFER}/camvid_cells.cfg --output_stride=16 --dataset=folder:{{data}}/camvid",
            _MIOU,
        ),
        Transfer(
            "fcn",
            "CamVid, fine-tuned",
            "segment",
            f"{_TRANSFER}/camvid_finetune.cfg --iterations=300 --backbone_learning_rate_factor=0.1 "
            "--keep_checkpoints=1 --dataset=folder:{data}/camvid",
            _MIOU,
            "cityscapes",
        ),
        Transfer(
            "bccd",
            "BCCD, C4",
            "detect",
            f"{_TRANSFER}/bccd_c4.cfg {_SHORT_DETECTION} --dataset=voc:{{data}}/voc_bccd",
            _AP,
            "voc",
        ),
        Transfer(
            "pennfudan",
            "Penn-Fudan, FPN",
            "detect",
            f"{_TRANSFER}/pennfudan_fpn.cfg {_SHORT_DETECTION} --dataset=coco:{{data}}/coco_pennfudan",
            (*_AP, "mask AP"),
            "coco_fpn",
        ),
        Transfer(
            "caltech",
            "Caltech-101, linear",
            "linear_probe",
            "--image_size=112 --output_stride=16 --learning_rate_factors=0.001,0.003,0.01,0.03,0.1,0.3 "
            "--keep_checkpoints=1 --dataset=folder:{data}/caltech101",
            _TOP,
            "imagenet",
        ),
    ),
    # As at the start of the pre-trainings.
    scratch="--backbone=resnet18_v1_5 --zero_init_residual=false",
    labeled="folder:{data}/caltech101/train",
)

TINY = Scale(
    "tiny",
    "A few steps on embedded scenes, to see that everything runs. The numbers mean nothing.",
    f"{_PRETRAIN}/tables_tiny.cfg",
    (
        Transfer(
            "cells",
            "scenes, frozen",
            "segment",
            f"{_TRANSFER}/camvid_cells.cfg --resize=48,48 --train_split=train[:64] "
            "--test_split=validation[:16] --dataset=scenes",
            _MIOU,
        ),
        Transfer(
            "fcn",
            "scenes, fine-tuned",
            "segment",
            f"{_TRANSFER}/camvid_fcn.cfg --nofrozen --base_learning_rate=0.02 --resize=48,48 "
            "--crop_size=32 --whole_images --epochs=1 --steps_per_epoch=4 --test_split=validation[:16] "
            "--dataset=scenes --keep_checkpoints=1",
            _MIOU,
            "cityscapes",
        ),
        Transfer(
            "detection",
            "scenes, C4",
            "detect",
            f"{_TRANSFER}/bccd_c4.cfg --train_split=train --test_split=validation[:8] "
            "--short_sides=48,64 --test_short_side=64 --max_side=96 --num_rois=8 --max_proposals=32 "
            "--bn_batches=2 --iterations=4 --warmup_iterations=1 --dataset=scenes --keep_checkpoints=1",
            _AP,
            "voc",
        ),
        Transfer(
            "linear",
            "scenes, linear",
            "linear_probe",
            "--image_size=32 --train_dataset=scenes:train[:128] --test_dataset=scenes:validation[:64] "
            "--batch_size=32 --epochs=1 --steps_per_epoch=4 --keep_checkpoints=1",
            _TOP,
            "imagenet",
        ),
    ),
    scratch="--backbone=resnet18_v1_5",
    labeled="scenes",
    data_flags="--data_dir={data}",
)

SCALES = {scale.name: scale for scale in (PAPER, SMALL, TINY)}

"""User code for mypy: correct uses pass, wrong ones are errors.

An error that mypy no longer finds is an unused `type: ignore`, which is one itself.
"""

import pathlib

import keras
import numpy as np

import pixpro_keras
from pixpro_keras import PixPro, PretrainResult, backbones


def right() -> None:
    result: PretrainResult = pixpro_keras.pretrain(pathlib.Path("photos"), "runs/mine", epochs=1)
    steps: int = result.steps
    files: list[pathlib.Path] = list(result.exported)
    vectors: np.ndarray = pixpro_keras.embed("folder:photos", "runs/mine", image_size=64).vectors
    backbone: keras.Model = pixpro_keras.load_backbone("runs/mine", features="c2-c5")
    method = PixPro(backbones.build("resnet18_v1_5"), gamma=2.0, total_steps=steps)
    method.compile(pixpro_keras.LARS(0.1), jit_compile=False)
    pixpro_keras.export_backbone(backbone, "resnet18_v1_5", files[0], formats=["keras"])
    print(vectors.shape, pixpro_keras.ResNet18V1_5(pooling="avg").output_shape)


def wrong() -> None:
    pixpro_keras.pretrain("folder:photos", preset=3)  # type: ignore[arg-type]
    print(pixpro_keras.embed("folder:photos", "runs/mine").vector)  # type: ignore[attr-defined]
    print(pixpro_keras.no_such_name)  # type: ignore[attr-defined]
    pixpro_keras.PixPro()  # type: ignore[call-arg]

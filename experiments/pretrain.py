"""Pre-trains a backbone on unlabelled images.

Run with a preset, a data set and anything else that differs:

    python experiments/pretrain.py --flagfile=experiments/configs/pretrain/quickstart.cfg
    python experiments/pretrain.py --dataset=folder:photos --backbone=resnet18_v1_5 \
        --image_size=96 --batch_size=64 --epochs=30 --workdir=runs/photos

The same command continues a run that was cut off. `--help` lists the flags.
"""

from pixpro_keras.cli.pretrain import main

if __name__ == "__main__":
    main()

"""Semantic segmentation on a pre-trained backbone: fine-tuned FCN, or a dense linear probe.

python experiments/segment.py --flagfile=experiments/configs/transfer/camvid_fcn.cfg \
    --dataset=folder:PATH --weights=runs/mine --workdir=runs/segment

`--frozen` trains a linear classifier alone, on the frozen features; with `--solver=lbfgs` it has no
learning rate and is fitted in one go. Writes `segment.md`, `segment.json` and `segment.png` to
`--workdir`. The same command continues a run that was cut off.
"""

from pixpro_keras.cli.segment import main

if __name__ == "__main__":
    main()

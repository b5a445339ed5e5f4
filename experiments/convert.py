"""Converts published PyTorch weights: the authors' checkpoints, and ResNets of other methods.

python experiments/convert.py --input=ckpt_epoch_100.pth --output=converted/pixpro
python experiments/convert.py --input=moco_v2_800ep_pretrain.pth.tar --output=converted/mocov2

Writes `backbone.keras`, which plain Keras opens, and a model card. Of a checkpoint of the PixPro release
also the whole training state, from which `pretrain.py --flagfile=OUTPUT/flags.cfg` continues.
"""

from pixpro_keras.cli.convert import main

if __name__ == "__main__":
    main()

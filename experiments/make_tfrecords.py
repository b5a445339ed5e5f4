"""Packs a folder of images into TFRecord files, their bytes unchanged or shrunk.

python experiments/make_tfrecords.py --input=photos --output=records/photos --num_shards=16 [--short_side=512]
python experiments/pretrain.py --dataset='tfrecord:records/photos-*.tfrecord'
"""

from pixpro_keras.cli.make_tfrecords import main

if __name__ == "__main__":
    main()

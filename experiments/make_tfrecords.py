"""Packs a folder of images into TFRecord files, their bytes unchanged or shrunk.

`python experiments/make_tfrecords.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.make_tfrecords import main

if __name__ == "__main__":
    main()

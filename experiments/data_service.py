"""Decodes and augments images on other machines, for `pretrain.py --data_service=ADDRESS`.

`python experiments/data_service.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.data_service import main

if __name__ == "__main__":
    main()

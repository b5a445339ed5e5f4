"""Pre-trains a backbone on unlabeled images.

`python experiments/pretrain.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.pretrain import main

if __name__ == "__main__":
    main()

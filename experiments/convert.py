"""Converts published PyTorch weights: the authors' checkpoints, and ResNets of other methods.

`python experiments/convert.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.convert import main

if __name__ == "__main__":
    main()

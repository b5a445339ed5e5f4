"""`experiments/pretrain.py` with the networks of the tests registered, to run as a process."""

from pixpro_keras.cli.pretrain import main
from tests.helpers.tiny_networks import register_resnets

if __name__ == "__main__":
    register_resnets()
    main()

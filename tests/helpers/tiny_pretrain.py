"""`experiments/pretrain.py` for processes of their own, which know the networks of the tests."""

from pixpro_keras.cli.pretrain import main
from tests.helpers.tiny_networks import register_resnets

if __name__ == "__main__":
    register_resnets()
    main()

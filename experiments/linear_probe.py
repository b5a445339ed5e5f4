"""Linear classification of frozen features, trained by SGD.

`python experiments/linear_probe.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.linear_probe import main

if __name__ == "__main__":
    main()

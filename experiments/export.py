"""Exports the backbone of a run, from its newest checkpoint or any other.

`python experiments/export.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.export import main

if __name__ == "__main__":
    main()

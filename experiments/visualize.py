"""Pictures of what a backbone has learned, and the curves of several runs in one.

`python experiments/visualize.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.visualize import main

if __name__ == "__main__":
    main()

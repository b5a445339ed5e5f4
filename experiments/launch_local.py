"""Starts a job as several workers on this machine, to try a multi-worker run without a cluster.

`python experiments/launch_local.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.launch_local import main

if __name__ == "__main__":
    main()

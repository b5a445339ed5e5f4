"""Starts a job as several workers on this machine, to try a multi-worker run without a cluster.

    python experiments/launch_local.py --workers=2 -- experiments/pretrain.py --batch_size=64 ...

What follows `--` is a script, here or in this folder, with its flags. Each worker gets a `TF_CONFIG`
with free local ports, and its output has its number in front. The first worker that fails ends all,
and its exit code becomes the launcher's; Ctrl-C and SIGTERM reach every worker once.
"""

from pixpro_keras.cli.launch_local import main

if __name__ == "__main__":
    main()

"""`python -m pixpro_keras.quickstart`: a pre-training of some minutes on the embedded scenes.

Flags that follow override the preset's: `--workdir=runs/first --steps_per_epoch=20`.
"""

import sys

from pixpro_keras.cli import pretrain

if __name__ == "__main__":
    sys.argv.insert(1, "--flagfile=pretrain/quickstart.cfg")
    pretrain.main()

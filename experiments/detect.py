"""Object detection and instance segmentation on a pre-trained backbone, fine-tuned.

python experiments/detect.py --flagfile=experiments/configs/transfer/bccd_c4.cfg \
    --dataset=voc:PATH --weights=runs/mine --workdir=runs/detect

Writes to `--workdir`: `detect.md` and `detect.json` (AP), `detections.json` (COCO's format),
`detect.png`, and the SavedModel `export/detector`: an image in, boxes out. With `--test_every_iterations`
the AP while training goes to `metrics.jsonl`, beside the losses. The same command continues a run that
was cut off.
"""

from pixpro_keras.cli.detect import main

if __name__ == "__main__":
    main()

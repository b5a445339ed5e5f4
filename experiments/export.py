"""Exports the backbone of a run, from its newest checkpoint or any other.

python experiments/export.py --input=runs/pretrain
python experiments/export.py --input=runs/pretrain --format=onnx,saved_model --features=c2-c5
python experiments/export.py --input=runs/pretrain --format=torch,detectron2 --output=exports
"""

from pixpro_keras.cli.export import main

if __name__ == "__main__":
    main()

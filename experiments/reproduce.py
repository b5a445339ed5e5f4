"""The paper's tables by one command: all pre-trainings and transfers of a table, and their numbers.

`python experiments/reproduce.py --help` shows how it is called, and every flag.
"""

from pixpro_keras.cli.reproduce import main

if __name__ == "__main__":
    main()

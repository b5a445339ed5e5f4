"""The paper's tables by one command: all pre-trainings and transfers of a table, and their numbers.

    python experiments/reproduce.py --table=3 --scale=tiny
    python experiments/reproduce.py --table=3 --scale=small --data=PATH --seeds=0,1,2
    python experiments/reproduce.py --table=3 --scale=paper --data=PATH
    python experiments/reproduce.py --table=3 --scale=paper --data=PATH \
        --submit='sbatch --parsable --gpus=8 --dependency=afterok:{after} --wrap {command}'

The first two run the jobs that are not finished, one after the other, and write after each of them
`table3.md`, `table3.json` and `table3.png` to `--workdir`. The same command goes on after a break; a job
that failed is tried again. The third prints the commands, the fourth submits them; both write what there
is of the table.
"""

from pixpro_keras.cli.reproduce import main

if __name__ == "__main__":
    main()

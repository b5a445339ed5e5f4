import importlib
import itertools
import pathlib
from unittest import mock

import tensorflow as tf

from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.method_checks import check_method
from pixpro_keras.cli.options.option_fields import FlagError, Options
from pixpro_keras.cli.paper_tables import jobs as jobs_module
from pixpro_keras.cli.paper_tables.jobs import Places, Planner, missing_data, plan
from pixpro_keras.cli.paper_tables.pretrainings import PRETRAININGS
from pixpro_keras.cli.paper_tables.scales import SCALES
from pixpro_keras.cli.paper_tables.tables import TABLES


def options_class(script):
    """Options class of a command."""
    module = importlib.import_module(f"pixpro_keras.cli.{script}")
    places = module.__name__, f"pixpro_keras.cli.options.{script}_options"
    (cls,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Options) and value.__module__ in places
    )
    return cls


def all_jobs(seeds=(0,)):
    for scale, table in itertools.product(SCALES.values(), TABLES.values()):
        yield scale, table, plan(Planner(scale, {}, has_data=True), table, seeds)


class JobsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.planner = Planner(SCALES["paper"], {}, has_data=True)

    def test_each_job_comes_once_and_after_its_pre_training(self):
        for scale, table, jobs in all_jobs(seeds=(0, 1)):
            names = [job.name for job in jobs]
            self.assertLen(set(names), len(names))
            for number, job in enumerate(jobs):
                if job.after is not None:
                    self.assertIn(job.after.name, names[:number])
                    self.assertIn("--weights={workdir}/" + job.after.name, job.flags)
            runs = [
                row
                for row in table.rows_at(scale)
                if scale.is_paper or PRETRAININGS[row.pretraining].flags is not None
            ]
            rows = {name.partition("/")[0] for name in names}
            self.assertContainsSubset({row.pretraining for row in runs} - {"scratch"}, rows)

    def test_jobs_of_an_installed_package_need_no_scripts(self):
        packages = pathlib.Path(self.create_tempdir().full_path)
        places = Places(pathlib.Path("/runs"))
        for _, _, jobs in all_jobs():
            for job in jobs:
                (_, script, *flags) = places.command(job)
                self.assertTrue((jobs_module.ROOT / script).is_file(), msg=script)
                with mock.patch.object(jobs_module, "ROOT", packages):
                    (_, option, code, *same_flags) = places.command(job)
                self.assertEqual((option, same_flags), ("-c", flags))
                module = pathlib.Path(script).stem
                self.assertEqual(code, f"from pixpro_keras.cli.{module} import main; main()")

    def test_tables_share_jobs(self):
        for scale in SCALES:
            known = {}
            for one, _, jobs in all_jobs():
                for job in jobs if one.name == scale else ():
                    self.assertEqual(known.setdefault(job.name, job), job)

    def test_the_fpn_of_table_1_is_pre_trained(self):
        names = [job.name for job in plan(self.planner, TABLES[1], [0], ["pixpro"])]
        self.assertEqual(
            names,
            [
                "pixpro/seed0/pretrain",
                "pixpro/seed0/voc",
                "pixpro_fpn/seed0/pretrain",
                "pixpro_fpn/seed0/coco_fpn",
                "pixpro/seed0/coco_c4",
                "pixpro/seed0/cityscapes",
            ],
        )

    def test_pre_trainings_alone(self):
        jobs = plan(self.planner, TABLES[1], [0], ["scratch", "pixpro"], ["pretrain"])
        names = [job.name for job in jobs]
        self.assertEqual(names, ["pixpro/seed0/pretrain", "pixpro_fpn/seed0/pretrain"])

    def test_rows_differ_in_their_method_only(self):
        planner = Planner(SCALES["small"], {}, has_data=True)
        jobs = plan(planner, TABLES[3], [0], columns=["pretrain"])
        own = [set(job.flags) for job in jobs]
        shared = set.intersection(*own)
        names = {flag.partition("=")[0] for flags in own for flag in flags - shared}
        expected = {"--method", "--temperature", "--propagation", "--nopropagation", "--negatives"}
        self.assertEqual(names, expected)

    def test_rows_that_the_paper_lacks_are_not_at_its_scale(self):
        name = "other_images/seed0/pretrain"
        jobs = plan(Planner(SCALES["small"], {}, has_data=True), TABLES[3], [0], ["other_images"])
        self.assertEqual(jobs[0].name, name)
        self.assertIn("--negatives=other_images", jobs[0].flags)
        self.assertEqual({job.after for job in jobs[1:]}, {jobs[0]})
        self.assertNotIn(name, [job.name for job in plan(self.planner, TABLES[3], [0])])
        with self.assertRaisesRegex(FlagError, "other_images"):
            plan(self.planner, TABLES[3], [0], ["other_images"])

    def test_overrides_come_last(self):
        overrides = {"all": ["--a=1"], "pretrain": ["--b=2"], "voc": ["--c=3"]}
        planner = Planner(SCALES["paper"], overrides, has_data=False)
        first, voc, coco = plan(planner, TABLES[3], [5], ["pixpro"])
        self.assertEqual(first.flags[-3:], ("--seed=5", "--a=1", "--b=2"))
        self.assertEqual(voc.flags[-3:], ("--seed=5", "--a=1", "--c=3"))
        self.assertEqual(coco.flags[-2:], ("--seed=5", "--a=1"))

    def test_what_does_not_exist(self):
        with self.assertRaisesRegex(FlagError, "--rows=byol: 'byol' is none of scratch"):
            plan(self.planner, TABLES[1], [0], ["byol"])
        with self.assertRaisesRegex(FlagError, "--columns=bccd: 'bccd' is none of voc"):
            plan(self.planner, TABLES[1], [0], columns=["bccd"])
        with self.assertRaisesRegex(FlagError, "--override=bccd:...: must begin with one of"):
            Planner(SCALES["paper"], {"bccd": []}, has_data=True)

    def test_data_that_is_missing(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        for name in ("imagenet_sample", "camvid/train/images", "voc_bccd"):
            (root / name).mkdir(parents=True)
        planner = Planner(SCALES["small"], {}, has_data=True)
        jobs = plan(planner, TABLES[3], [0], ["pixpro"], ["bccd"])
        missing = missing_data(jobs, Places(root / "runs", str(root)))
        self.assertEqual(missing, [str(root / "caltech101/train")])

    def test_every_command_is_of_flags_that_exist(self):
        lines = {}
        places = Places(pathlib.Path("/runs"), "/data")
        for _, _, jobs in all_jobs():
            for job in jobs:
                lines[job.script, job.flags] = places.command(job)[2:]
        self.assertGreater(len(lines), 100)
        for (script, _), argv in lines.items():
            options, rest = parsing.parse(options_class(script), argv)
            self.assertEmpty(rest)
            options.check_required()
            if script == "pretrain":
                check_method(options)


if __name__ == "__main__":
    tf.test.main()

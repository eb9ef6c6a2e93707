"""What submit-windows decides, without Slurm: plans read, tasks matched with windows; its errors, word by word."""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

SLURM = pathlib.Path(__file__).resolve().parents[2] / "slurm"
sys.path.insert(0, str(SLURM))
from site_windows import Failure, Window, read_array, read_plan, read_state, reconcile, write_state  # noqa: E402


def changes(assignments):
    return {a.task or f"new at {a.window.open_s}": a.change for a in assignments}


class Plans(unittest.TestCase):
    def test_both_formats_and_whole_seconds(self):
        windows = [{"start": "1970-01-01T00:01:00Z", "end": "1970-01-01T00:02:00+00:00", "minutes": 1},
                   {"start_unix_s": 200.25, "end_unix_s": 300.75, "nodes": 3}]
        expected = [Window(60, 120, 2), Window(201, 300, 3)]
        self.assertEqual(read_plan(json.dumps({"windows": windows}), "p", "a", 2), expected)
        plan = {"sites": [{"name": "b", "windows": []}, {"name": "a", "windows": list(reversed(windows))}]}
        self.assertEqual(read_plan(json.dumps(plan), "p", "a", 2), expected)

    def test_part_of_the_nodes(self):
        windows = [{"start_unix_s": 0, "end_unix_s": 60, "part": 0.5}, {"start_unix_s": 60, "end_unix_s": 120, "part": 0.1},
                   {"start_unix_s": 120, "end_unix_s": 180, "part": 1.0}]
        read = read_plan(json.dumps({"sites": [{"name": "a", "windows": windows}]}), "p", "a", 5)
        self.assertEqual([window.nodes for window in read], [2, 1, 5])

    def test_bad_plans(self):
        def message(document, site="a"):
            with self.assertRaises(Failure) as caught:
                read_plan(document if isinstance(document, str) else json.dumps(document), "plan.json", site, 1)
            self.assertEqual(caught.exception.code, 65)
            return str(caught.exception)
        self.assertIn("plan.json: not the JSON of spillway windows or spillway plan", message("{"))
        self.assertIn("not the JSON", message({"windows": [{"start": "1970-01-01T00:01:00Z"}]}))
        self.assertIn("not the JSON", message([1]))
        self.assertIn("has no time zone", message({"windows": [{"start": "1970-01-01T00:01:00", "end": "1970-01-01T00:01:00"}]}))
        self.assertIn("0 nodes", message({"windows": [{"start_unix_s": 1, "end_unix_s": 2, "nodes": 0}]}))
        self.assertEqual(message({"sites": [{"name": "b", "windows": []}]}), "plan.json: no site 'a'; it has b")
        overlapping = [{"start_unix_s": 0, "end_unix_s": 20}, {"start_unix_s": 10, "end_unix_s": 30}]
        self.assertEqual(message({"windows": overlapping}),
                         "plan.json: windows at 1970-01-01T00:00:00Z and 1970-01-01T00:00:10Z overlap")


class States(unittest.TestCase):
    def test_written_and_read(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "windows.tsv"
            self.assertEqual((read_state(file), read_array(file)), ({}, ""))
            rows = {"12_1": Window(30, 40, 2), "12_0": Window(10, 20, 1)}
            write_state(file, "12", rows)
            self.assertEqual((read_state(file), read_array(file)), (rows, "12"))
            file.write_text("# array 12\n12_0\tten\t20\t1\n")
            with self.assertRaisesRegex(Failure, r"windows\.tsv:2: expected task, open, close, nodes"):
                read_state(file)


class Decisions(unittest.TestCase):
    first, second, third = Window(100, 200, 1), Window(300, 400, 1), Window(500, 600, 1)

    def test_nothing_there_and_nothing_to_do(self):
        self.assertEqual(changes(reconcile({}, {}, [self.first, self.second], 0, 10)),
                         {"new at 100": "added", "new at 300": "added"})
        rows = {"1_0": self.first, "1_1": self.second}
        live = {"1_0": "RUNNING", "1_1": "PENDING", "1_2": "PENDING"}
        self.assertEqual(changes(reconcile(rows, live, [self.first, self.second], 150, 10)), {"1_0": "kept", "1_1": "kept"})

    def test_running_task_follows_the_window_that_holds_now(self):
        rows, live = {"1_0": self.first}, {"1_0": "RUNNING"}
        for windows, change in (([Window(100, 260, 1)], "extended"), ([Window(120, 180, 1)], "shortened"),
                                ([], "suspended"), ([self.second], "suspended")):
            decided = reconcile(rows, live, windows, 150, 10)
            self.assertEqual(decided[0].change, change)
        # Its opening has passed and its width cannot change.
        self.assertEqual(reconcile(rows, live, [Window(90, 260, 4)], 150, 10)[0].window, Window(100, 260, 1))

    def test_waiting_tasks(self):
        rows = {"1_0": self.first, "1_1": self.second}
        live = {"1_0": "PENDING", "1_1": "PENDING", "1_2": "PENDING"}
        decided = reconcile(rows, live, [Window(290, 350, 1)], 0, 10)
        self.assertEqual(changes(decided), {"1_0": "cancelled", "1_1": "moved"})
        decided = reconcile(rows, live, [Window(700, 800, 1), self.second, Window(900, 950, 1)], 0, 10)
        self.assertEqual(changes(decided), {"1_0": "moved", "1_1": "kept", "1_2": "added"})
        self.assertEqual(changes(reconcile(rows, live, [self.first, Window(300, 400, 3)], 0, 10)),
                         {"1_0": "kept", "1_1": "resized"})

    def test_what_is_left_of_a_window_must_be_longer_than_the_lead(self):
        self.assertEqual(reconcile({}, {}, [self.first], 190, 10), [])
        self.assertEqual(changes(reconcile({}, {}, [self.first], 189, 10)), {"new at 100": "added"})

    def test_any_plan_leaves_each_window_with_one_task(self):
        seed = 20261123
        chance = random.Random(seed)
        for _ in range(2000):
            edges = sorted(chance.sample(range(1000), 12))
            draw = lambda: [Window(a, b, chance.choice((1, 2))) for a, b in zip(edges[::2], edges[1::2]) if chance.random() < 0.6]
            old = draw()
            edges = sorted(chance.sample(range(1000), 12))
            new, now = draw(), chance.randrange(1000)
            rows = {f"1_{i}": window for i, window in enumerate(old)}
            live = {f"1_{i}": "PENDING" for i in range(len(old) + chance.randrange(3))}
            running = [task for task, window in rows.items() if window.open_s <= now < window.close_s]
            live.update({task: "RUNNING" for task in running})
            decided = reconcile(rows, live, new, now, 10)
            tasks = [a.task for a in decided if a.task]
            self.assertEqual(len(tasks), len(set(tasks)), f"seed {seed}")
            ends = sorted(a.window.close_s for a in decided if a.window)
            wanted = sorted(w.close_s for w in new if w.close_s - 10 > now or (running and w.open_s <= now < w.close_s))
            self.assertEqual(ends, wanted, f"seed {seed}")
            self.assertLessEqual(set(rows), set(tasks), f"seed {seed}: a task with a window was forgotten")


class CommandLine(unittest.TestCase):
    def run_it(self, program, *arguments):
        done = subprocess.run([SLURM / program, *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    def test_one_line_errors(self):
        self.assertEqual(self.run_it("submit-windows", "--site", "a"),
                         (64, "submit-windows: the following arguments are required: --config; see --help\n"))
        self.assertEqual(self.run_it("federation.sh", "--config", "x"),
                         (64, "federation.sh: --config and at least one SITE=ENV.sh are needed; see --help\n"))
        self.assertEqual(self.run_it("federation.sh", "--config", "x", "a=/nowhere"),
                         (64, "federation.sh: a: /nowhere cannot be read\n"))
        self.assertEqual(self.run_it("lab/slurm-lab", "rise"), (64, "slurm-lab: unknown command 'rise'; see --help\n"))
        for program in ("site.sbatch", "hub.sbatch"):
            code, text = self.run_it(program, "--colour")
            self.assertEqual(code, 64)
            self.assertIn("unknown option '--colour'; see --help", text)


if __name__ == "__main__":
    unittest.main()

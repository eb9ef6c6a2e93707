"""A new forecast meets a live array: every kind of change, seen in Slurm's own records."""

import re
import sys
import time

from lab import SOURCE, Lab, seconds, wait_for

SITE = "fjord"


def told(output, task):
    """The change that submit-windows printed for a task."""
    return next(re.split(r"\s{2,}", line.strip())[6].split(" ")[0] for line in output.splitlines() if line.startswith(task + " "))


class Changes:
    def __init__(self, lab):
        self.lab, self.config = lab, lab.write_run()

    def submit(self, windows, *more, status=0):
        output = self.lab.submit(SITE, self.config, windows, "--lead", "4", "--spare", "2", "--nodes", "2", *more, status=status)
        print(output)
        return output

    def records(self, task):
        array, index = task.split("_")
        return [r for r in self.lab.records(SITE) if r.get("ArrayJobId") == array and r.get("ArrayTaskId") == index]

    def wait_until_training(self, task):
        wait_for(f"{task} trains", lambda: f"{task}: start" in self.lab.log("run", SITE)
                 and self.lab.log("run", SITE).rsplit(f"{task}: start", 1)[1].count("(periodic)"))

    def ended(self, task):
        return wait_for(f"{task} ends", lambda: self.records(task))[0]


def waiting_tasks(changes):
    """Dry run, submission, the same again, then a plan in which everything differs."""
    lab, now = changes.lab, int(time.time())
    first = [(now + 4, now + 120), (now + 400, now + 460), (now + 800, now + 860), (now + 1200, now + 1260)]
    changes.submit(first, "--dry-run")
    assert not lab.live(SITE) and not (lab.root / "run/slurm" / SITE / "windows.tsv").exists(), "a dry run has submitted"
    changes.submit(first)
    tasks = lab.tasks(SITE)
    for index in (1, 2, 3):
        assert seconds(tasks[f"1_{index}"]["StartTime"]) == first[index][0], tasks[f"1_{index}"]
        assert tasks[f"1_{index}"]["TimeLimit"] == "00:01:00"
    assert sorted(lab.live(SITE)) == [f"1_{index}" for index in range(6)]
    assert lab.live(SITE)["1_5"][1] == "JobHeldUser", "the last two are spare"
    before = lab.tasks(SITE)
    assert "0 changed" in changes.submit(first)
    after = lab.tasks(SITE)
    assert {t: (s["StartTime"], s["TimeLimit"]) for t, s in before.items() if t != "1_0"} == \
        {t: (s["StartTime"], s["TimeLimit"]) for t, s in after.items() if t != "1_0"}

    # Task 1 moves and gets longer, 2 keeps its start and gets narrower, 3 disappears, one is added: it takes 3's place.
    changes.wait_until_training("1_0")
    second = [first[0], (now + 420, now + 600), (now + 800, now + 860, 1), (now + 2000, now + 2060)]
    output = changes.submit(second)
    assert [told(output, f"1_{k}") for k in range(4)] == ["kept", "moved", "resized", "moved"], output
    tasks = lab.tasks(SITE)
    assert seconds(tasks["1_1"]["StartTime"]) == now + 420 and tasks["1_1"]["TimeLimit"] == "00:03:00", tasks["1_1"]
    assert tasks["1_2"]["NumNodes"].split("-")[0] == "1" and tasks["1_2"]["NumTasks"] == "1", tasks["1_2"]
    assert seconds(tasks["1_3"]["StartTime"]) == now + 2000
    # One more is added, on a spare task; then two disappear.
    output = changes.submit(second + [(now + 3000, now + 3060)])
    assert told(output, "1_4") == "added" and lab.live(SITE)["1_4"][1] != "JobHeldUser"
    output = changes.submit(second[:3])
    assert told(output, "1_3") == told(output, "1_4") == "cancelled", output
    assert "1_3" not in lab.live(SITE) and changes.ended("1_3")["JobState"] == "CANCELLED"
    # Never two at once: a task whose start is now waits for the one that runs.
    lab.run("scontrol", "update", "JobId=1_1", "StartTime=now", cluster=SITE)
    wait_for("Slurm holds the second task back", lambda: lab.live(SITE)["1_1"] == ["PENDING", "JobArrayTaskLimit"], 30)
    changes.submit(second[:3])
    return now


def running_task(changes, now):
    """The window of a task that runs is extended, closes early, disappears, opens late."""
    lab = changes.lab
    others = [(now + 2420, now + 2600), (now + 2800, now + 2860)]
    output = changes.submit([(now + 4, now + 180)] + others)
    assert told(output, "1_0") == "extended", output
    assert seconds(lab.tasks(SITE)["1_0"]["EndTime"]) == now + 180
    # Closes early: 4 s of lead and some to do it in.
    close = int(time.time()) + 12
    output = changes.submit([(now + 4, close)] + others)
    assert told(output, "1_0") == "shortened", output
    record = changes.ended("1_0")
    assert record["ExitCode"] == "75:0" and seconds(record["EndTime"]) <= close, (record, close)

    # Opens early, so at once, then the forecast says later: the task suspends, the later window has a task of its own.
    start = int(time.time())
    output = changes.submit([(start, start + 300), others[1]])
    assert told(output, "1_1") == "moved", output
    changes.wait_until_training("1_1")
    asked = time.time()
    output = changes.submit([(start + 700, start + 760), others[1]])
    assert told(output, "1_1") == "suspended", output
    record = changes.ended("1_1")
    assert record["ExitCode"] == "75:0", record
    print(f"from the change of plan to freed nodes: {seconds(record['EndTime']) - asked:.1f} s")
    later = [task for task, (opens, _) in lab.window_tasks("run", SITE).items() if opens == start + 700]
    assert later and later[0] in lab.live(SITE)
    jobs = lab.inspect("run", SITE)["lineage"]
    assert [job["first_step"] for job in jobs[1:]] == [job["last_step"] for job in jobs[:-1]], jobs
    return start


def late_task(changes):
    """A task that Slurm starts after its window has closed leaves at once; a foreign array is refused."""
    lab, now = changes.lab, int(time.time())
    lab.run("scancel", "--name", f"spillway-{SITE}", cluster=SITE)
    wait_for("all are cancelled", lambda: not lab.live(SITE))
    changes.submit([(now + 30, now + 40), (now + 500, now + 560)])
    task, (_, close) = min(lab.window_tasks("run", SITE).items(), key=lambda row: row[1])
    lab.run("scontrol", "update", f"JobId={task}", f"StartTime=uts{close - 3}", cluster=SITE)
    record = changes.ended(task)
    assert record["ExitCode"] == "75:0", record
    assert f"{task}: nothing to train: its window closes at" in lab.log("run", SITE)
    assert f"{task}: start" not in lab.log("run", SITE)

    # More windows than tasks: a new array takes over.
    many = [(now + 500 + 100 * k, now + 560 + 100 * k) for k in range(8)]
    output = changes.submit(many)
    array = task.split("_")[0]
    assert len(lab.window_tasks("run", SITE)) == 8 and not any(t.startswith(f"{array}_") for t in lab.live(SITE)), output
    assert len(lab.live(SITE)) == 10, "eight windows and two spare tasks"
    (lab.root / "run/slurm" / SITE / "windows.tsv").unlink()
    output = changes.submit(many, status=65)
    assert re.fullmatch(r"submit-windows: array \d+ of spillway-fjord is live but .*windows\.tsv does not know it: "
                        r"cancel it \(scancel \d+\), or name its folder by --state", output.strip()), output


def taken_ports(lab):
    """A second lab on the first one's ports is refused at once, and the first stays as it is."""
    script = SOURCE / "slurm/lab/slurm-lab"
    output = lab.run("env", f"SPILLWAY_LAB={lab.root}/other", script, "up", "other", status=69)
    assert re.fullmatch(rf"slurm-lab: port {lab.port} is in use; choose others with SPILLWAY_LAB_PORT, now {lab.port}",
                        output.strip()), output
    assert not (lab.root / "other").exists()


def main(spillway):
    with Lab(spillway, f"{SITE}:3") as lab:
        taken_ports(lab)
        changes = Changes(lab)
        running_task(changes, waiting_tasks(changes))
        late_task(changes)


if __name__ == "__main__":
    main(sys.argv[1])

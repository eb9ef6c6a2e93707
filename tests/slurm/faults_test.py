"""Node lost, batch step killed, scancel, and a run that becomes complete: what is left in Slurm and in the checkpoints."""

import os
import re
import signal
import subprocess
import sys
import time

from lab import Lab, wait_for

SITE = "storm"


class Fault:
    """One window on two of three nodes; the task is the array's first."""

    def __init__(self, lab):
        self.lab, self.config, self.task = lab, lab.write_run(), "1_0"
        now = int(time.time())
        self.windows = [(now + 2, now + 600), (now + 900, now + 960)]
        self.submit()

    def submit(self):
        return self.lab.submit(SITE, self.config, self.windows, "--lead", "5", "--nodes", "2")

    def shown(self):
        return self.lab.tasks(SITE)[self.task]

    def wait_until_training(self, restarts):
        def trains():
            start = self.lab.log("run", SITE).rsplit(f"{self.task}: start {restarts} on", 1)
            return len(start) == 2 and start[1].count("(periodic)") >= 1
        wait_for(f"start {restarts} trains and has checkpoints", trains)

    def wait_until_requeued(self, restarts):
        """Slurm gives the task back; submit-windows, as cron would, spares it the two minutes that Slurm adds."""
        began = time.monotonic()
        wait_for("the task is requeued", lambda: self.shown()["JobState"] == "PENDING" or self.shown()["Restarts"] == str(restarts))
        noticed_s = time.monotonic() - began

        def runs_again():
            self.submit()
            time.sleep(2)
            return self.shown()["JobState"] == "RUNNING" and self.shown()["Restarts"] == str(restarts)
        wait_for("it runs again", runs_again)
        self.wait_until_training(restarts)
        return noticed_s


def lose_node(fault):
    lab = fault.lab
    fault.wait_until_training(0)
    node = fault.shown()["BatchHost"]
    lab.lab("kill-node", node)
    noticed_s = fault.wait_until_requeued(1)
    assert node not in lab.run("scontrol", "show", "hostnames", fault.shown()["NodeList"], cluster=SITE).split()
    print(f"{node} killed: requeued after {noticed_s:.0f} s, goes on at {fault.shown()['NodeList']}")
    lab.lab("start-node", node)
    assert any(record["JobState"] == "NODE_FAIL" for record in lab.records(SITE)), lab.records(SITE)


def kill_batch_step(fault):
    """And the node's slurmd, which is started again. The ranks and their srun live on, and while a step reports itself
    Slurm does not miss the batch step: training goes on, watched by Slurm's limit alone."""
    lab, host = fault.lab, fault.shown()["BatchHost"]
    job = fault.shown()["JobId"]
    pids = subprocess.run(["pgrep", "-f", rf"^slurmstepd: \[{job}\.batch\]"], capture_output=True, text=True, check=False)
    open_files = {pid: [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")] for pid in pids.stdout.split()}
    ours = [pid for pid, files in open_files.items() if any(file.startswith(str(lab.root)) for file in files)]
    assert len(ours) == 1, open_files
    slurmd = int((lab.root / "lab" / SITE / "run" / f"slurmd-{host}.pid").read_text())
    checkpoints = lab.log("run", SITE).count("(periodic)")
    for pid in (int(ours[0]), slurmd):
        os.kill(pid, signal.SIGKILL)
    lab.lab("start-node", host)
    wait_for("training goes on", lambda: lab.log("run", SITE).count("(periodic)") >= checkpoints + 2)
    assert fault.shown()["JobState"] == "RUNNING" and fault.shown()["Restarts"] == "1", fault.shown()
    print(f"batch step and slurmd of {host} killed: training went on")


def check_resumed(lab, starts):
    """Every start but the first went on from a checkpoint that an earlier one wrote, none twice from the beginning."""
    text = lab.log("run", SITE)
    parts = re.split(rf"{SITE} 1_0: start \d+ on", text)[1:]
    assert len(parts) == starts, text
    assert "resuming from" not in parts[0]
    last = 0
    for before, part in zip(parts, parts[1:]):
        resumed = re.search(r"resuming from \S*checkpoint_(\d+)\.h5", part)
        written = [int(number) for number in re.findall(r"checkpoint \S*checkpoint_(\d+)\.h5 \(", before)]
        assert resumed and int(resumed[1]) == max(written), (resumed, written)
        assert int(resumed[1]) > last
        last = int(resumed[1])
    jobs = lab.inspect("run", SITE)["lineage"]
    assert all(job["parent_digest"] for job in jobs[1:]) and not jobs[0]["parent_digest"], jobs
    steps = [(job["first_step"], job["last_step"]) for job in jobs]
    assert all(b[0] == a[1] for a, b in zip(steps, steps[1:])), steps


def cancel(fault):
    lab, asked = fault.lab, time.time()
    lab.run("scancel", fault.task, cluster=SITE)
    wait_for("the nodes are free", lambda: set(lab.run("sinfo", "-h", "-o", "%T", cluster=SITE).split()) == {"idle"}, 60)
    print(f"scancel: nodes free after {time.time() - asked:.1f} s")
    assert "(signal SIGTERM)" in lab.log("run", SITE), "it did not suspend"
    assert [r for r in lab.records(SITE) if r["JobState"] == "CANCELLED" and r.get("ArrayTaskId") == "0"]
    assert wait_for("the next window's task is still there", lambda: lab.live(SITE).get("1_1"))[0] == "PENDING"
    lab.run("scancel", "--name", f"spillway-{SITE}", cluster=SITE)
    wait_for("nothing is left", lambda: not lab.live(SITE))


def complete(lab):
    """A run of few steps: its first window finishes it, the second is cancelled. Then one that can only fail."""
    now = int(time.time())
    lab.submit("calm", lab.write_run("short", steps=40), [(now + 1, now + 300), (now + 400, now + 460)], "--lead", "5")
    wait_for("the run is complete", lambda: "the run is complete" in lab.log("short", "calm"))
    wait_for("the other tasks are cancelled", lambda: not lab.live("calm"))
    ends = {record["ArrayTaskId"]: record for record in lab.records("calm") if "ArrayTaskId" in record}
    assert ends["0"]["JobState"] == "COMPLETED" and ends["0"]["ExitCode"] == "0:0", ends
    assert lab.inspect("short", "calm")["progress"]["step"] == 40

    now = int(time.time())
    config = lab.write_run("broken", more="\n[data]\ndir = /nowhere\n")
    lab.submit("calm", config, [(now + 1, now + 300), (now + 400, now + 460)], "--lead", "5")
    wait_for("the failure is told", lambda: "FAILED with status" in lab.log("broken", "calm"))
    array = lab.window_tasks("broken", "calm")
    failed = wait_for("the task has failed", lambda: [r for r in lab.records("calm") if r.get("JobState") == "FAILED"])[0]
    assert failed["ExitCode"] == "65:0", failed
    assert [task for task, (opens, _) in array.items() if opens == now + 400][0] in lab.live("calm"), "the next window tries again"


def main(spillway):
    with Lab(spillway, f"{SITE}:3", "calm:1", LAB_NODE_TIMEOUT="6", LAB_KILL_WAIT="8") as lab:
        fault = Fault(lab)
        complete(lab)
        lose_node(fault)
        kill_batch_step(fault)
        check_resumed(lab, 2)
        cancel(fault)


if __name__ == "__main__":
    main(sys.argv[1])

"""Real Slurm clusters for one test: starts them with slurm/lab/slurm-lab, asks Slurm, reads its records and checkpoints."""

import datetime
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SKIP = 77
CONFIG = """
[model]
layers = 2
width = 64
heads = 2
sequence = 32
[data]
dir = {root}/data
[train]
steps = {steps}
tokens-per-step = {tokens_per_step}
threads = 1
val-every = 0
log-every = 50
checkpoint-every = 2s
suspend-deadline = 3s
[run]
dir = {root}/run
"""
TOKENS_PER_STEP = 512


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIP)


def require_slurm():
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for program in ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol"):
        if not shutil.which(program):
            skip(f"no {program}: install slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins, as ./run test does")
    if os.geteuid() != 0:
        skip("starting slurmd for several virtual nodes needs root")


def seconds(utc_text):
    """Unix seconds of Slurm's times; its daemons run with TZ=UTC here."""
    return datetime.datetime.fromisoformat(utc_text).replace(tzinfo=datetime.timezone.utc).timestamp()


class Lab:
    """Clusters below a fresh folder, on ports of their own, gone at the end however that comes."""

    def __init__(self, spillway, *clusters, **settings):
        require_slurm()
        self.spillway = str(pathlib.Path(spillway).resolve())
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="spw-", dir="/tmp"))  # short: sockets live there
        self.root.chmod(0o755)  # munge insists
        self.mutex, self.port = self.free_ports()
        self.environment = dict(
            os.environ, SPILLWAY_LAB=str(self.root / "lab"), SPILLWAY_LAB_PORT=str(self.port), TZ="UTC",
            SPILLWAY=self.spillway, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
            OMPI_MCA_mpi_yield_when_idle="1", OMP_NUM_THREADS="1", **settings)
        for variable in [name for name in self.environment if name.startswith(("SLURM_", "SBATCH_"))]:
            del self.environment[variable]
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))
        try:
            self.lab("up", "--owner", str(os.getpid()), *clusters)
        except BaseException:
            self.__exit__(None)
            raise

    @staticmethod
    def free_ports():
        """A block of 1000 ports that no other test uses: its last port is held meanwhile, and those of other tests lie
        above 16000 (slurm-lab's own, then tests/train/runs.hpp, then tests/fault)."""
        for base in range(11000, 16000, 1000):
            mutex = socket.socket()
            try:
                mutex.bind(("127.0.0.1", base + 999))
                return mutex, base
            except OSError:
                mutex.close()
        skip("ports 11000 to 15999 are all in use")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind not in (None, SystemExit):
            self.show_logs()
        self.lab("down")
        self.mutex.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def show_logs(self):
        for log in sorted(self.root.rglob("*.log")) + sorted(self.root.rglob("jobcomp.txt")):
            print(f"==== {log}\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)

    def run(self, *arguments, status=0, cluster=None):
        environment = dict(self.environment)
        if cluster:
            environment["SLURM_CONF"] = self.conf(cluster)
        # A file, not a pipe: daemons would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run([str(a) for a in arguments], env=environment, stdout=output, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, cwd=self.root, timeout=120, check=False)
            output.seek(0)
            text = output.read()
        assert done.returncode == status, f"{' '.join(map(str, arguments))}: status {done.returncode}: {text}"
        return text

    def lab(self, *arguments):
        return self.run(SOURCE / "slurm/lab/slurm-lab", *arguments)

    def conf(self, cluster):
        return str(self.root / "lab" / cluster / "slurm.conf")

    # ---- a run of Spillway ------------------------------------------------------------------------------------------

    def write_run(self, name="run", steps=1000000, more=""):
        """Token shards once, and NAME.ini with checkpoints in root/NAME."""
        if not (self.root / "data").exists():
            words = ["".join(random.Random(i).choices("abcdefgh", k=4)) for i in range(60)]
            chosen = random.Random(7)
            (self.root / "text").write_text("\n".join(" ".join(chosen.choices(words, k=12)) for _ in range(4000)))
            self.run(self.spillway, "tokenize", "--text", self.root / "text", "--out", self.root / "data", "--vocab", "300")
        text = CONFIG.format(root=self.root, steps=steps, tokens_per_step=TOKENS_PER_STEP)
        file = self.root / f"{name}.ini"
        file.write_text(text.replace(f"{self.root}/run", f"{self.root}/{name}") + more)
        return file

    def submit(self, cluster, config, windows, *more, site=None, status=0):
        """submit-windows with windows as (open, close[, nodes]) in unix seconds."""
        plan = self.root / f"plan-{site or cluster}.json"
        keys = ("start_unix_s", "end_unix_s", "nodes")
        plan.write_text(json.dumps({"sites": [{"name": site or cluster,
                                               "windows": [dict(zip(keys, window)) for window in windows]}]}))
        return self.run(SOURCE / "slurm/submit-windows", "--config", config, "--site", site or cluster, "--plan", plan,
                        *more, status=status, cluster=cluster)

    def inspect(self, run, site):
        return json.loads(self.run(self.spillway, "inspect", self.root / run / site, "--json"))

    def log(self, run, site):
        return "".join(log.read_text() for log in sorted((self.root / run / "slurm" / site).glob("window-*.log")))

    # ---- what Slurm says --------------------------------------------------------------------------------------------

    def tasks(self, cluster):
        """{"<array>_<index>": {State, StartTime, EndTime, …}} of scontrol; array records that stand for many are left out."""
        result = {}
        for line in self.run("scontrol", "--oneliner", "show", "jobs", cluster=cluster).splitlines():
            shown = dict(re.findall(r"(\w+)=(\S*)", line))
            if re.fullmatch(r"\d+", shown.get("ArrayTaskId", "")):
                result[f"{shown['ArrayJobId']}_{shown['ArrayTaskId']}"] = shown
        return result

    def state(self, cluster, task):
        return self.tasks(cluster).get(task, {}).get("JobState")

    def live(self, cluster):
        lines = self.run("squeue", "--noheader", "--array", "--format", "%F_%K %T %r", cluster=cluster).splitlines()
        return {line.split()[0]: line.split(None, 2)[1:] for line in lines}

    def records(self, cluster):
        """The job completion log: one dictionary for each end of a job, requeued ones included."""
        file = self.root / "lab" / cluster / "log" / "jobcomp.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def window_tasks(self, run, site):
        """{task: (open, close)} as the windows file says now."""
        lines = (self.root / run / "slurm" / site / "windows.tsv").read_text().splitlines()
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
        return {task: (int(opens), int(closes)) for task, opens, closes, _ in rows}


def wait_for(what, predicate, patience_s=90):
    """Waits for a state, not for a time; returns what the predicate said."""
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        value = predicate()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {patience_s} s: {what}")

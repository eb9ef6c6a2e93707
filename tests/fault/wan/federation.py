"""A federated run over the lab: the hub at one node, a site's MPI job at each other, seen through journal and logs."""

import array
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import time

HUB_PORT = 7077
CONFIG = """
[model]
layers = {layers}
width = {width}
heads = {heads}
vocab = {vocab}
sequence = 32
[data]
dir = {folder}/data
[train]
steps = {steps}
tokens-per-step = {tokens_per_step}
threads = 1
device = {device}
val-every = 0
log-every = 0
checkpoint-every = {checkpoint_every}
suspend-deadline = 40s
[federation]
hub = {hub}:{port}
interface = {interface}
round-length = {round_length}
round-deadline = {round_deadline}
lease-steps = {lease_steps}
compression = {compression}
streams = {streams}
{more}
[run]
dir = {folder}/run
"""
# 2.6 million parameters, sent in fp32: an exchange over 60 ms is a good part of a round of 2 s, so that faults hit it.
# The deadline of a round must lie below the 30 s within which the others are to commit again.
SETTINGS = {"device": "cpu", "layers": 2, "width": 256, "heads": 2, "vocab": 2048, "steps": 1000000, "tokens_per_step": 64,
            "checkpoint_every": "10s", "interface": "wan0", "round_length": "2s", "round_deadline": "15s", "lease_steps": 50,
            "compression": "fp32", "streams": 1, "port": HUB_PORT, "more": ""}
LOST_WORK = re.compile(r"(\d+) steps trained since model version \d+ could not be merged")


def write_data(folder, vocab):
    """Shards in llm.c's layout: a walk over tokens, each mostly followed by its neighbour."""
    folder.mkdir(parents=True)
    chosen = random.Random(12345)
    tokens = array.array("H", [0])
    while len(tokens) < 60000:
        tokens.append((tokens[-1] + (1 if chosen.random() < 0.75 else chosen.randrange(64))) % min(64, vocab))
    for name, part in (("train", tokens[:50000]), ("val", tokens[50000:])):
        header = struct.pack("<3i", 20240520, 1, len(part)).ljust(1024, b"\0")
        (folder / f"{name}_000000.bin").write_bytes(header + part.tobytes())


def family(pid):
    """The process and all below it, as {pid: words of its command line}."""
    found, queue = {}, [pid]
    for member in queue:
        try:
            words = pathlib.Path(f"/proc/{member}/cmdline").read_bytes().split(b"\0")
            tasks = list(pathlib.Path(f"/proc/{member}/task").iterdir())
        except OSError:  # it has just ended
            continue
        found[member] = [word.decode(errors="replace") for word in words]
        for task in tasks:
            with contextlib.suppress(OSError):  # a thread that has just ended
                queue.extend(map(int, (task / "children").read_text().split()))
    return found


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Federation:
    """Hub and sites. All methods are for one thread; poll() must be called often, as it notes when commits appear."""

    def __init__(self, the_lab, spillway, folder, ranks=2, **settings):
        self.lab, self.spillway, self.folder, self.ranks = the_lab, spillway, pathlib.Path(folder), ranks
        hub, *self.sites = the_lab.nodes
        self.hub_node = the_lab[hub]
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True)
        values = {**SETTINGS, "hub": self.hub_node.address, "folder": self.folder, **settings}
        write_data(self.folder / "data", values["vocab"])
        self.config = self.folder / "run.ini"
        self.config.write_text(CONFIG.format(**values))
        self.hub, self.jobs = None, {}
        self.commits = []  # {"seen_s", "sites", "version", "hash", …}
        self.journal = self.folder / "run/hub/journal.jsonl"
        self.journal_offset = 0
        self.lost = {name: 0 for name in self.sites}  # steps whose data went back to the pool, by the sites' logs
        self.log_offsets = {}

    # --- processes ---

    def start_hub(self):
        self.hub = self.hub_node.start(self.logs / "hub.log", self.spillway, "hub", "--config", self.config)

    def start_site(self, name):
        self.jobs[name] = self.lab[name].start(
            self.logs / f"{name}.log", "mpirun", "-n", self.ranks, "--oversubscribe", "--bind-to", "none", "--mca",
            "mpi_yield_when_idle", "1", "--mca", "btl", "vader,self", self.spillway, "train", "--config", self.config,
            "--site", name)

    def start(self):
        self.start_hub()
        for name in self.sites:
            self.start_site(name)

    def restart_hub(self):
        self.hub.wait(5)
        self.start_hub()

    def restart_site(self, name):
        """Once the old job is gone, as a batch system does it."""
        try:
            self.jobs[name].wait(30)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the job of {name} does not end") from None
        self.start_site(name)

    def members(self, name, role):
        """Pids of a role: of a site "mpirun", "rank", "courier" or "gateway"; of "hub" also "hub", "vault", "names"."""
        process = self.hub if name == "hub" else self.jobs[name]
        words_of = {"rank": "train", "courier": "courier", "gateway": "gateway", "vault": "vault", "hub": "hub"}
        found = []
        for pid, words in family(process.pid).items():
            program = os.path.basename(words[0])
            # "exe": what a process has started whose program was replaced meanwhile, by a build perhaps.
            if role in words_of and program in ("spillway", "exe") and len(words) > 1 and words[1] == words_of[role]:
                found.append(pid)
            elif role == "names" and program == "ompi-server" or role == "mpirun" and program == "mpirun":
                found.append(pid)
        return found

    def leader(self, name):
        """The rank that has started a courier: rank 0."""
        for pid in self.members(name, "rank"):
            if any(words[1:2] == ["courier"] for words in family(pid).values()):
                return pid
        return None

    # --- what has happened ---

    def poll(self):
        """Reads what is new in journal and logs."""
        now_s = time.monotonic()
        if self.journal.exists():
            with open(self.journal, encoding="utf-8") as stream:
                stream.seek(self.journal_offset)
                text = stream.read()
            complete = text[:text.rfind("\n") + 1]
            self.journal_offset += len(complete.encode())
            for line in complete.splitlines():
                entry = json.loads(line[33:])  # a checksum of 32 digits comes first; the audit checks it
                if entry["type"] == "commit":
                    self.commits.append(dict(entry, seen_s=now_s))
        for name in self.sites:
            for line in self.new_lines(name, "lost work"):
                if found := LOST_WORK.search(line):
                    self.lost[name] += int(found[1])

    def new_lines(self, name, reader):
        """The lines that this reader has not read yet."""
        log, key = self.logs / f"{name}.log", (name, reader)
        if not log.exists():
            return []
        with open(log, "rb") as stream:
            stream.seek(self.log_offsets.get(key, 0))
            text = stream.read()
        complete = text[:text.rfind(b"\n") + 1]
        self.log_offsets[key] = self.log_offsets.get(key, 0) + len(complete)
        return complete.decode(errors="replace").splitlines()

    def wait(self, condition, patience_s, tick_s=0.05):
        """Polls until the condition holds; its value, or None when patience ends."""
        end_s = time.monotonic() + patience_s
        while True:
            self.poll()
            if value := condition():
                return value
            if time.monotonic() > end_s:
                return None
            time.sleep(tick_s)

    def commit_since(self, since_s, sites=(), after_epoch=0):
        """The first commit seen after an instant, with work of all these sites, in an epoch after the given one."""
        first = len(self.commits)
        while first > 0 and self.commits[first - 1]["seen_s"] > since_s:
            first -= 1
        return next((commit for commit in self.commits[first:]
                     if set(sites) <= set(commit["sites"]) and commit["epoch"] > after_epoch), None)

    def sleep(self, seconds):
        self.wait(lambda: None, seconds)

    def status(self):
        """The hub's own account; None where no hub answers."""
        try:
            return json.loads(self.hub_node.run(self.spillway, "hub", "status", "--config", self.config, "--json"))
        except RuntimeError:
            return None

    def audit(self):
        """The audit's violations; none: the journal is sound."""
        done = subprocess.run([self.spillway, "hub", "--audit", self.folder / "run", "--json"], capture_output=True,
                              text=True, check=False)
        if done.returncode not in (0, 65) or not done.stdout:
            return [f"the audit ended with status {done.returncode}: {done.stderr.strip()}"]
        return json.loads(done.stdout)["violations"]

    def disagreements(self):
        """Lines of the logs that say that two members have different models."""
        found = []
        for log in self.logs.iterdir():
            for line in self.new_lines(log.stem, "hashes"):
                if "disagree about the merged model" in line or "was committed with hash" in line or "arrived with hash" in line:
                    found.append(f"{log.name}: {line}")
        return found

    # --- the end ---

    def suspend(self, patience_s=60):
        """Ends the run in good order; returns what was not."""
        faults = []
        for name, job in self.jobs.items():
            job.send_signal(signal.SIGUSR1)
        for name, job in self.jobs.items():
            if not self.wait(lambda job=job: job.poll() is not None, patience_s):
                faults.append(f"{name} does not end after SIGUSR1")
            elif job.returncode != 75:
                faults.append(f"{name} ended with status {job.returncode} instead of 75")
        self.hub.send_signal(signal.SIGTERM)
        if not self.wait(lambda: self.hub.poll() is not None, patience_s):
            faults.append("the hub does not end after SIGTERM")
        return faults

    def final_hashes(self):
        """Of the models on disk: {member: (version, hash)} by `spillway inspect`, after `spillway verify`."""
        result = {}
        for name in [*self.sites, "vault"]:
            folder = self.folder / "run" / name
            newest = folder / "latest" if (folder / "latest").exists() else max(folder.glob("*.h5"))
            subprocess.run([self.spillway, "verify", newest], check=True, capture_output=True)
            text = subprocess.run([self.spillway, "inspect", newest], check=True, capture_output=True, text=True).stdout
            found = re.search(r"committed +model version (\d+), .*hash ([0-9a-f]+)", text)
            result[name] = (int(found[1]), found[2]) if found else (None, text)
        return result

    def remove(self):
        shutil.rmtree(self.folder)

    def show_logs(self, lines=25):
        for log in sorted(self.logs.iterdir()):
            print(f"==== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:]))

"""Formations and dissolutions of epochs, and what they leave behind in the processes that live through them."""

import os
import pathlib
import re
import signal
import statistics
import time

START_S = 60
PATIENCE_S = 60
READINGS, READING_PAUSE_S = 6, 0.15
WARM_UP = 0.2        # part of the formations before the first measurement counts: caches and pools fill
PAGES_BYTES = os.sysconf("SC_PAGE_SIZE")
# Memory also grows with what is no leak: histories of steps and rounds, pools that fill in the first minutes. So it is
# judged over many formations only, and by what it grows for each.
FEWEST_FORMATIONS_FOR_MEMORY = 100
MOST_BYTES_PER_FORMATION = 16384


class Census:
    """Long-lived processes, and the machine as a whole, measured now and then while all sites train together."""

    def __init__(self, run, stayers):
        self.run, self.stayers = run, stayers
        self.samples = []  # {quantity: value}

    def pids(self):
        named = {"hub": self.run.hub.pid}
        for role in ("vault", "courier"):
            named[f"hub {role}"] = self.run.members("hub", role)[0]
        for name in self.stayers:
            named[f"{name} mpirun"] = self.run.members(name, "mpirun")[0]
            named[f"{name} courier"] = self.run.members(name, "courier")[0]
            for i, pid in enumerate(sorted(self.run.members(name, "rank"))):
                named[f"{name} rank {i}"] = pid
        return named

    def take(self):
        """Keeps the least of some readings: probes and checkpoints come and go."""
        readings = []
        for _ in range(READINGS):
            readings.append(self.read())
            self.run.sleep(READING_PAUSE_S)
        self.samples.append({quantity: min(reading[quantity] for reading in readings) for quantity in readings[0]})

    def read(self):
        sample = {}
        for title, pid in self.pids().items():
            sample[f"descriptors: {title}"] = len(os.listdir(f"/proc/{pid}/fd"))
            sample[f"resident: {title}"] = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGES_BYTES
        sample["processes of the lab"] = sum(name.isdigit() for name in os.listdir("/proc"))
        sample["files in /dev/shm"] = sum(len(files) for _, _, files in os.walk("/dev/shm"))
        sample["System V segments"] = len(pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()) - 1
        sample["temporary files"] = sum(len(files) for node in self.run.lab.nodes.values()
                                        for _, _, files in os.walk(node.environment["TMPDIR"]))
        return sample

    def growth(self, formations):
        """Compares the first fifth after warming up with the last fifth; returns what has grown."""
        used = self.samples[int(WARM_UP * len(self.samples)):]
        part = max(1, len(used) // 5)
        violations = []
        print(f"\n{'quantity':<40} {'at first':>10} {'at last':>10}   (medians of {part} samples each)")
        for quantity in self.samples[-1]:
            first, last = (statistics.median(sample[quantity] for sample in some) for some in (used[:part], used[-part:]))
            print(f"{quantity:<40} {first:>10.0f} {last:>10.0f}")
            if quantity.startswith("resident"):
                grown = formations >= FEWEST_FORMATIONS_FOR_MEMORY and last - first > MOST_BYTES_PER_FORMATION * formations
            else:
                grown = last > first
            if grown:
                violations.append(f"{quantity} grows from {first:.0f} to {last:.0f} over {formations} formations")
        return violations


def count_formations(run):
    return len(re.findall(r"hub info .*: formed in ", (run.logs / "hub.log").read_text(errors="replace")))


def planned(run, comer):
    """A site leaves in good order and comes back: two formations."""
    job = run.jobs[comer]
    job.send_signal(signal.SIGUSR1)
    if not run.wait(lambda: job.poll() is not None, PATIENCE_S):
        return f"{comer} does not end after SIGUSR1"
    left_s = time.monotonic()
    others = [name for name in run.sites if name != comer]
    if not run.wait(lambda: run.commit_since(left_s, others), PATIENCE_S):
        return f"no commit of the others within {PATIENCE_S} s after {comer} has left"
    run.start_site(comer)
    return None


def failed(run, name):
    """A gateway dies: one formation."""
    for pid in run.wait(lambda: run.members(name, "gateway"), PATIENCE_S) or []:
        os.kill(pid, signal.SIGKILL)


def measure(run, formations):
    """Alternates planned changes and killed gateways; returns violations."""
    began_s = time.monotonic()
    run.start()
    *stayers, comer = run.sites
    if not run.wait(lambda: run.commit_since(began_s, run.sites), START_S):
        return [f"no commit of all sites within {START_S} s"]
    census, turn, first = Census(run, stayers), 0, count_formations(run)
    while (formed := count_formations(run) - first) < formations:
        changed_s = time.monotonic()
        epoch = run.commits[-1]["epoch"]
        problem = planned(run, comer) if turn % 2 == 0 else failed(run, run.sites[turn // 2 % len(run.sites)])
        if problem or not run.wait(lambda: run.commit_since(changed_s, run.sites, epoch), PATIENCE_S):
            return [problem or f"no commit of all sites within {PATIENCE_S} s after formation {formed}"]
        census.take()
        turn += 1
        if turn % 20 == 0:
            print(f"{formed} formations after {changed_s - began_s:.0f} s", flush=True)
    print(f"{formed} formations and dissolutions in {time.monotonic() - began_s:.0f} s, {len(run.commits)} commits")
    return census.growth(formed) + run.suspend() + run.audit() + run.disagreements()

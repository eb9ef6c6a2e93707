"""A seeded sequence of faults in a running federation, and what must hold after each."""

import contextlib
import collections
import os
import random
import signal
import statistics
import time

import federation

NEXT_COMMIT_S = 30  # from the fault or, where it stops everybody, from its repair
REFORMED_S = 60     # from the repair to a commit with the work of all sites
CUT_S = 30          # how long links are down, black holes and partitions
PAUSE_S = 25        # how long a leader is stopped: longer than the deadline of a round
RESTART_S = (2, 6)  # after which a killed job or hub is started again
LONGEST_LULL_S = 6  # between a commit of all and the next fault: about two rounds
START_S = 90
# The plan of the time: what a fault takes until the next one, on the average and at most where all holds, and the end, on
# a busy machine: sites suspend one after the other, at most 60 s each, then four models are read twice.
FAULT_S, LONGEST_FAULT_S, CLOSING_S = 27, 100, 120


class Fault:
    """One fault: what it hits, and what it may cost."""

    def __init__(self, target, repair_after_s=0.0, repair=None, dies=(), loses=(), stops_all=False, breaks=True):
        self.target = target
        self.repair_after_s = repair_after_s  # from the fault; without a repair the product itself repairs, at once
        self.repair = repair
        self.dies = set(dies)       # sites whose job ends
        self.loses = set(loses)     # sites that may lose their current round
        self.stops_all = stops_all  # no commit is possible before the repair
        self.breaks = breaks        # the epoch cannot go on


class Injector:
    """Each method named after a kind of fault injects it and returns a Fault."""

    KINDS = ("gateway", "courier", "leader", "rank", "site", "hub", "name_server", "name_server_forming", "vault",
             "vault_gateway", "vault_courier", "link_down", "black_hole", "hub_link_down", "partition", "paused_leader")

    def __init__(self, run, chosen):
        self.run, self.chosen = run, chosen

    def victim(self):
        return self.chosen.choice(self.run.sites)

    @staticmethod
    def kill(pids):
        if not pids:
            raise RuntimeError("there is no such process to kill")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it dies of the others' deaths
                os.kill(pid, signal.SIGKILL)

    def wait_members(self, name, role, patience_s=30):
        found = self.run.wait(lambda: self.run.members(name, role), patience_s)
        if not found:
            raise RuntimeError(f"{name} has no {role}")
        return found

    # --- processes ---

    def gateway(self):
        name = self.victim()
        self.kill(self.wait_members(name, "gateway"))
        return Fault(name, loses=[name])

    def courier(self):
        name = self.victim()
        self.kill(self.wait_members(name, "courier"))
        return Fault(name, loses=[name])

    def restarted(self, name, target):
        return Fault(target, self.chosen.uniform(*RESTART_S), lambda: self.run.restart_site(name), dies=[name],
                     loses=[name])

    def leader(self):
        name = self.victim()
        self.kill([self.run.leader(name)])
        return self.restarted(name, name)

    def rank(self):
        name = self.victim()
        leader = self.run.leader(name)
        self.kill([pid for pid in self.run.members(name, "rank") if pid != leader])
        return self.restarted(name, name)

    def site(self):
        name = self.victim()
        self.kill(list(federation.family(self.run.jobs[name].pid)))
        return self.restarted(name, name)

    def hub(self):
        self.kill([self.run.hub.pid])
        return Fault("hub", self.chosen.uniform(*RESTART_S), self.run.restart_hub, stops_all=True)

    def name_server(self):
        if not self.run.members("hub", "names"):  # killed in this epoch before: it lives as long as its epoch
            began_s = time.monotonic()
            self.kill(self.wait_members(self.victim(), "gateway"))
            self.run.wait(lambda: self.run.members("hub", "names") and self.run.commit_since(began_s, self.run.sites),
                          REFORMED_S)
        self.kill(self.wait_members("hub", "names"))
        return Fault("hub", breaks=False)

    def name_server_forming(self):
        """Together with a gateway, so that it dies while the next epoch forms."""
        name = self.victim()
        old = self.run.members("hub", "names")
        self.kill(self.wait_members(name, "gateway"))
        new = self.run.wait(lambda: [pid for pid in self.run.members("hub", "names") if pid not in old], 30, tick_s=0.01)
        self.run.sleep(self.chosen.uniform(0, 1.5))
        self.kill(new or [])
        return Fault(f"{name}, hub", loses=[name])

    def vault(self):
        self.kill(self.wait_members("hub", "vault"))
        return Fault("vault")

    def vault_gateway(self):
        self.kill(self.wait_members("hub", "gateway"))
        return Fault("vault")

    def vault_courier(self):
        self.kill(self.wait_members("hub", "courier"))
        return Fault("vault")

    def paused_leader(self):
        name = self.victim()
        leader = self.run.leader(name)
        os.kill(leader, signal.SIGSTOP)
        return Fault(name, PAUSE_S, lambda: os.kill(leader, signal.SIGCONT), loses=[name])

    # --- lines ---

    def link_down(self):
        name = self.victim()
        self.run.lab[name].link.command("down")
        return Fault(name, CUT_S, self.run.lab.restore, loses=[name])

    def black_hole(self):
        name = self.victim()
        self.run.lab[name].link.command("blackhole")
        return Fault(name, CUT_S, self.run.lab.restore, loses=[name])

    def hub_link_down(self):
        self.run.hub_node.link.command("down")
        return Fault("hub", CUT_S / 2, self.run.lab.restore, stops_all=True)

    def partition(self):
        one, other = self.chosen.sample(self.run.sites, 2)
        self.run.lab.partition(one, other)
        return Fault(f"{one} | {other}", CUT_S, self.run.lab.restore, loses=[one, other])


class Campaign:
    """Injects faults one after the other and keeps what they have cost."""

    def __init__(self, run, seed, kinds=Injector.KINDS, minutes=None):
        self.run, self.kinds = run, kinds
        self.began_s = time.monotonic()
        self.end_s = self.began_s + 60 * minutes if minutes else float("inf")
        self.chosen = random.Random(seed)
        self.injector = Injector(run, self.chosen)
        self.rows = collections.defaultdict(list)  # kind: (seconds to the next commit, seconds to re-formation, steps lost)
        self.violations = []
        self.seed = seed

    def deck(self, count):
        """Every kind equally often, in random order."""
        kinds = [self.kinds[i % len(self.kinds)] for i in range(count)]
        self.chosen.shuffle(kinds)
        return kinds

    def go(self, count):
        print(f"plan: {count} faults of about {FAULT_S} s, then the closing comparison of models, at most {CLOSING_S} s: "
              f"{(count * FAULT_S + CLOSING_S) / 60:.0f} minutes in all", flush=True)
        self.run.start()
        if not self.run.wait(lambda: self.run.commit_since(self.began_s, self.run.sites), START_S):
            self.violations.append(f"no commit of all sites within {START_S} s of the start")
            return
        print(f"{count} faults, seed {self.seed}\n"
              f"{'no':>3}  {'fault':<20} {'at':<32} {'phase':<10}  {'commit, s':>9}  {'re-formed, s':>12}  lost steps",
              flush=True)
        for number, kind in enumerate(self.deck(count), start=1):
            if time.monotonic() + LONGEST_FAULT_S + CLOSING_S > self.end_s:
                print(f"the time ends: {number - 1} of {count} faults were injected", flush=True)
                return
            if not self.one(number, kind) and not self.comes_back():
                self.violation(f"fault {number}", "the campaign ends here, as the federation does not re-form")
                return

    def comes_back(self):
        """After a fault that cost too long: whether all sites commit together later."""
        began_s = time.monotonic()
        return self.run.wait(lambda: self.run.commit_since(began_s, self.run.sites), 4 * REFORMED_S)

    def violation(self, where, text):
        self.violations.append(f"{where}: {text}")
        print(f"     VIOLATION: {where}: {text}", flush=True)

    def one(self, number, kind):
        """Injects a fault, repairs, waits; returns whether all sites are together again."""
        run = self.run
        run.sleep(self.chosen.uniform(0, LONGEST_LULL_S))
        status = run.status()
        before = {name: (run.jobs[name].pid, sorted(run.members(name, "rank"))) for name in run.sites}
        lost_before = dict(run.lost)
        epoch = max([commit["epoch"] for commit in run.commits] + [status["epoch"]["id"] if status["epoch"] else 0])
        fault = getattr(self.injector, kind)()
        hit_s = time.monotonic()
        after_epoch = epoch if fault.breaks else 0
        if fault.repair:
            run.sleep(fault.repair_after_s)
            fault.repair()
        repaired_s = time.monotonic() if fault.repair else hit_s
        counted_s = repaired_s if fault.stops_all else hit_s
        reformed = run.wait(lambda: run.commit_since(repaired_s, run.sites, after_epoch), 2 * REFORMED_S)
        following = run.commit_since(counted_s, (), after_epoch)
        lost = {name: run.lost[name] - lost_before[name] for name in run.sites}

        def violation(text):
            self.violation(f"fault {number}, {kind} at {fault.target}", text)

        for name in run.sites:
            if name not in fault.dies and before[name] != (run.jobs[name].pid, sorted(run.members(name, "rank"))):
                violation(f"the job of {name} has died")
            if lost[name] and name not in fault.loses:
                violation(f"{name} has lost {lost[name]} steps")
        if not following or following["seen_s"] - counted_s > NEXT_COMMIT_S:
            violation(f"no commit within {NEXT_COMMIT_S} s")
        if not reformed or reformed["seen_s"] - repaired_s > REFORMED_S:
            violation(f"no commit of all sites within {REFORMED_S} s of the repair")
        for text in run.audit() + run.disagreements():
            violation(text)
        commit_s = following["seen_s"] - counted_s if following else float("inf")
        reformed_s = reformed["seen_s"] - repaired_s if reformed else float("inf")
        self.rows[kind].append((commit_s, reformed_s, sum(lost.values())))
        phase = status["epoch"]["state"] if status["epoch"] else "no epoch"
        print(f"{number:>3}  {kind:<20} {fault.target:<32} {phase:<10}  {commit_s:>9.1f}  {reformed_s:>12.1f}  "
              f"{', '.join(f'{name} {steps}' for name, steps in lost.items() if steps)}", flush=True)
        return reformed is not None

    def finish(self):
        """Ends the run in good order and compares the models on disk."""
        began_s = time.monotonic()
        print(f"closing, {(began_s - self.began_s) / 60:.1f} minutes after the start: all end, then the comparison", flush=True)
        self.violations += self.run.suspend()
        ended_s = time.monotonic()
        self.violations += self.run.audit() + self.run.disagreements()
        last = self.run.commits[-1]
        for name, model in self.run.final_hashes().items():
            if model != (last["version"], last["hash"]):
                self.violations.append(f"{name} holds version {model[0]} with hash {model[1]}, the journal ends with "
                                       f"version {last['version']}, hash {last['hash']}")
        print(f"all had ended after {ended_s - began_s:.0f} s, audit and comparison took {time.monotonic() - ended_s:.1f} s",
              flush=True)

    def print_table(self):
        print(f"\n{'fault':<20} {'times':>5}  {'next commit, s':>22}  {'all again after repair':>22}  {'steps lost':>10}\n"
              f"{'':<26}  {'median     most':>22}  {'median     most':>22}")
        for kind in self.kinds:
            if rows := self.rows[kind]:
                columns = list(zip(*rows))
                print(f"{kind:<20} {len(rows):>5}  {statistics.median(columns[0]):>12.1f} {max(columns[0]):>9.1f}  "
                      f"{statistics.median(columns[1]):>12.1f} {max(columns[1]):>9.1f}  {sum(columns[2]):>10}")
        print(f"{len(self.run.commits)} commits in all, the journal's audit is run after each fault; {len(self.violations)} "
              "violations")

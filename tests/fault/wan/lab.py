"""Nodes in network namespaces around a core, each behind an emulated link. To be run inside the namespaces of ../run."""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

SKIP = 77
NAMESPACES = pathlib.Path("/run/lab")
# What the README asks of hosts on long fast links: buffers that may grow to 32 MB, and no slow start after the pauses between rounds.
LONG_LINK = {"tcp_wmem": "4096 16384 33554432", "tcp_rmem": "4096 131072 33554432", "tcp_slow_start_after_idle": "0"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "HWLOC_COMPONENTS": "-opencl"}  # with OpenCL's LLVM mpirun does not forward SIGUSR1
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIP)


def run(*words):
    """Runs a short command and insists on its success."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Link:
    """The emulated line between a node and the core."""

    def __init__(self, emulator, node, number, delay_ms, mbit_per_s):
        self.node = node
        self.process = subprocess.Popen(
            [emulator, node.network, "wan0", "/proc/1/ns/net", f"link{number}", str(delay_ms), str(mbit_per_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the link of {node.name} does not start")

    def command(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise RuntimeError(f"the link of {self.node.name}: {answer or 'it has ended'}")
        return answer

    def statistics(self):
        return json.loads(self.command("statistics"))


class Node:
    """A host: namespaces of network and host name, the address 10.77.0.NUMBER on wan0, temporary files of its own."""

    def __init__(self, name, number):
        self.name = name
        self.address = f"10.77.0.{number}"
        folder = NAMESPACES / name
        (folder / "tmp").mkdir(parents=True)
        self.network, self.host = folder / "net", folder / "host"
        self.environment = dict(os.environ, TMPDIR=str(folder / "tmp"), **ENVIRONMENT)
        self.network.touch()
        self.host.touch()
        run("unshare", f"--net={self.network}", f"--uts={self.host}", "hostname", name.replace("_", "-"))
        self.link = None

    def words(self, *words):
        """The command line that runs `words` at this node."""
        return ["nsenter", f"--net={self.network}", f"--uts={self.host}", "--", *map(str, words)]

    def run(self, *words):
        return run(*self.words(*words))

    def start(self, log, *words):
        """Starts a program that ends with the lab; its output is appended to `log`."""
        with open(log, "ab") as output:
            return subprocess.Popen(self.words(*words), env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                                    stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent)


class Loopback:
    """All names at this one host, without links."""

    def __init__(self, names):
        run("ip", "link", "set", "lo", "up")
        (NAMESPACES / "tmp").mkdir()
        self.nodes = dict.fromkeys(names, self)
        self.environment = dict(os.environ, TMPDIR=str(NAMESPACES / "tmp"), **ENVIRONMENT)
        self.address = "127.0.0.1"

    def __getitem__(self, name):
        return self.nodes[name]

    @staticmethod
    def words(*words):
        return list(map(str, words))

    def run(self, *words):
        return run(*words)

    start = Node.start


class Lab:
    """Nodes by name. `delay_ms` is that of each link one way: between two nodes a packet takes twice that, and a round
    trip four times. `mbit_per_s` holds per link and direction."""

    def __init__(self, emulator, names, delay_ms=15.0, mbit_per_s=1000.0, sysctls=None):
        if not pathlib.Path(emulator).exists():
            raise SystemExit(f"{emulator} is missing: build the target link_emulator")
        if not shutil.which("ip"):
            skip("no ip: install iproute2")
        run("ip", "link", "set", "lo", "up")
        self.nodes = {}
        for number, name in enumerate(names, start=1):
            node = Node(name, number)
            node.link = Link(emulator, node, number, delay_ms, mbit_per_s)
            node.run("ip", "link", "set", "lo", "up")
            node.run(*self.without_ipv6("wan0"))
            run(*self.without_ipv6(f"link{number}"))
            node.run("ip", "address", "add", f"{node.address}/24", "dev", "wan0")
            node.run("ip", "link", "set", "wan0", "up")
            run("ip", "link", "set", f"link{number}", "up")
            run("ip", "route", "add", f"{node.address}/32", "dev", f"link{number}")
            for key, value in {**LONG_LINK, **(sysctls or {})}.items():
                self.set(node, f"net/ipv4/{key}", value)
            self.nodes[name] = node
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    @staticmethod
    def without_ipv6(device):
        """Its routers' solicitations would be the only IPv6 on the lines."""
        return ["sh", "-c", f"! test -e /proc/sys/net/ipv6 || echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6"]

    @staticmethod
    def set(node, key, value):
        # /proc/sys/net shows the network of who opens it.
        run(*node.words("sh", "-c", 'printf %s "$1" > "$0"', f"/proc/sys/{key}", value))

    def __getitem__(self, name):
        return self.nodes[name]

    def partition(self, one, other):
        """The two do not reach each other, but everybody else."""
        self[one].link.command("cut", self[other].address)
        self[other].link.command("cut", self[one].address)

    def restore(self):
        for node in self.nodes.values():
            node.link.command("restore")

"""The WireGuard recipe of src/comm/SECURITY.md: a run whose traffic between the nodes is all inside the tunnel."""

import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import threading
import time

import lab

PORT = 51820
NETWORK = "10.78.0"
COMMITS = 3
PATIENCE_S = 90
ETH_P_ALL, UDP = 3, 17


class Sniffer(threading.Thread):
    """Counts the packets on the core's side of a link: inside the tunnel, and all others."""

    def __init__(self, device):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.bind((device, 0))
        self.inside, self.others = 0, []
        self.start()

    def run(self):
        while True:
            packet = self.socket.recv(128)
            header = 4 * (packet[0] & 15)
            ports = (int.from_bytes(packet[header:header + 2], "big"), int.from_bytes(packet[header + 2:header + 4], "big"))
            if packet[0] >> 4 == 4 and packet[9] == UDP and ports == (PORT, PORT):
                self.inside += 1
            else:
                self.others.append(f"{socket.inet_ntoa(packet[12:16])} → {socket.inet_ntoa(packet[16:20])}, protocol "
                                   f"{packet[9]}, ports {ports[0]} and {ports[1]}")


def start_devices(nodes):
    """The device wg<number> at each node, by the kernel or by wireguard-go; says which."""
    if not shutil.which("wg"):
        lab.skip("no wg: apt-get install --no-install-recommends wireguard-tools")
    try:
        for number, node in enumerate(nodes, start=1):
            node.run("ip", "link", "add", f"wg{number}", "type", "wireguard")
        return "the kernel's WireGuard"
    except RuntimeError:
        if not shutil.which("wireguard-go"):
            lab.skip("neither WireGuard in this kernel nor wireguard-go: apt-get install wireguard-go")
    pathlib.Path("/run/wireguard").mkdir()
    for number, node in enumerate(nodes, start=1):
        subprocess.Popen(node.words("wireguard-go", "-f", f"wg{number}"), preexec_fn=lab.die_with_parent,
                         env=dict(os.environ, LOG_LEVEL="error"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end_s = time.monotonic() + 10
    while not all(pathlib.Path(f"/run/wireguard/wg{number}.sock").exists() for number in range(1, len(nodes) + 1)):
        if time.monotonic() > end_s:
            raise SystemExit("wireguard-go does not start")
        time.sleep(0.05)
    return "wireguard-go"


def connect(nodes):
    """A mesh: every node knows every other one by its address on the line."""
    keys = {}
    for node in nodes:
        private = lab.run("wg", "genkey").strip()
        file = lab.NAMESPACES / node.name / "wg.key"
        file.touch(mode=0o600)
        file.write_text(private)
        public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()
        keys[node.name] = file, public
    for number, node in enumerate(nodes, start=1):
        words = ["wg", "set", f"wg{number}", "listen-port", PORT, "private-key", keys[node.name][0]]
        for other, peer in enumerate(nodes, start=1):
            if peer is not node:
                words += ["peer", keys[peer.name][1], "endpoint", f"{peer.address}:{PORT}", "allowed-ips",
                          f"{NETWORK}.{other}/32", "persistent-keepalive", 25]
        node.run(*words)
        node.run("ip", "address", "add", f"{NETWORK}.{number}/24", "dev", f"wg{number}")
        node.run("ip", "link", "set", f"wg{number}", "mtu", 1420, "up")


def check(the_lab, make_run):
    """Some rounds in the tunnel with a shared key; returns what was not as it should be. `make_run` takes settings."""
    nodes = list(the_lab.nodes.values())
    kind = start_devices(nodes)
    connect(nodes)
    key = lab.NAMESPACES / "spillway.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(32))
    sniffers = [Sniffer(f"link{number}") for number in range(1, len(nodes) + 1)]
    run = make_run(hub=f"{NETWORK}.1", interface=f"{NETWORK}.0/24", more=f"key-file = {key}")
    began_s = time.monotonic()
    run.start()

    def together():
        return [commit for commit in run.commits if len(commit["sites"]) == len(run.sites)]

    violations = []
    if not run.wait(lambda: len(together()) >= COMMITS, PATIENCE_S):
        violations.append(f"fewer than {COMMITS} commits of all sites within {PATIENCE_S} s")
        run.show_logs()
    else:
        print(f"{kind}: {COMMITS} commits of all sites {together()[COMMITS - 1]['seen_s'] - began_s:.1f} s after the start")
    violations += run.suspend() + run.audit()
    inside = sum(sniffer.inside for sniffer in sniffers)
    others = [line for sniffer in sniffers for line in sniffer.others]
    print(f"packets on the lines: {inside} of WireGuard, {len(others)} others")
    if not inside:
        violations.append("no packet went through the tunnel")
    violations += [f"outside the tunnel: {line}" for line in others[:5]]
    return violations

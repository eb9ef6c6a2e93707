"""What the emulated link gives: ping and iperf3 over one node, the core and another node."""

import json
import re
import shutil
import subprocess
import time

import lab

MOST_PORTS = 4


def iperf3(pairs, seconds, window=None):
    """Simultaneous iperf3 runs, each (server, client, address): received bits per second of each, with retransmissions
    and both ends' share of a core."""
    if not shutil.which("iperf3"):
        lab.skip("no iperf3: apt-get install iperf3")
    servers, clients = [], []
    for port, (server, _, _) in enumerate(pairs, start=5201):
        servers.append(server.start("/dev/null", "iperf3", "-s", "-1", "-p", port))
    time.sleep(0.5)
    for port, (_, client, address) in enumerate(pairs, start=5201):
        words = ["iperf3", "-J", "-c", address, "-p", port, "-t", seconds, "-O", 2] + (["-w", window] if window else [])
        clients.append(subprocess.Popen(client.words(*words), stdout=subprocess.PIPE, text=True))
    results = []
    for client in clients:
        end = json.loads(client.communicate(timeout=seconds + 30)[0])["end"]
        results.append({"bits_per_s": end["sum_received"]["bits_per_second"], "retransmits": end["sum_sent"]["retransmits"],
                        "cpu_percent": (end["cpu_utilization_percent"]["host_total"],
                                        end["cpu_utilization_percent"]["remote_total"])})
    for server in servers:
        server.wait(10)
    return results


def ping(node, address, count=20):
    """Round-trip times in ms: least, mean, most."""
    text = node.run("ping", "-q", "-i", "0.1", "-c", count, address)
    return tuple(map(float, re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", text).groups()))


def processor_s(process):
    fields = open(f"/proc/{process.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def check(the_lab):
    """Prints a table; returns what is not as it should be."""
    nodes = list(the_lab.nodes.values())
    faults = []
    round_trip = ping(nodes[0], nodes[1].address)
    print(f"ping {nodes[0].name} to {nodes[1].name}: {round_trip[0]:.2f} / {round_trip[1]:.2f} / {round_trip[2]:.2f} ms "
          "(least / mean / most)")
    if not 60 <= round_trip[1] <= 63:
        faults.append(f"the mean round trip is {round_trip[1]:.2f} ms instead of 60 to 63")
    for title, pairs in (("one stream", [(nodes[1], nodes[0])]),
                         ("both directions of one pair", [(nodes[1], nodes[0]), (nodes[0], nodes[1])]),
                         (f"a ring of {len(nodes)}", list(zip(nodes[1:] + nodes[:1], nodes)))):
        before = [processor_s(node.link.process) for node in nodes]
        results = iperf3([(server, client, server.address) for server, client in pairs], 10)
        used = [(processor_s(node.link.process) - b) / 12 for node, b in zip(nodes, before)]
        rates = [result["bits_per_s"] / 1e6 for result in results]
        print(f"iperf3 {title}: {' '.join(f'{rate:.0f}' for rate in rates)} Mbit/s, "
              f"{sum(result['retransmits'] for result in results)} retransmissions; "
              f"emulators use {' '.join(f'{u:.2f}' for u in used)} cores")
        if len(pairs) == 1 and not 900 <= rates[0] <= 970:
            faults.append(f"one stream gets {rates[0]:.0f} Mbit/s instead of 900 to 970 (1000 less headers)")
    return faults

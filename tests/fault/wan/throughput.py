"""Exchanges of a larger model against iperf3 between the same nodes."""

import json
import statistics
import time

import federation
import lab
import link_check

MEMBERS = ["hub", "california", "texas"]  # the vault at the hub takes part in each exchange
GOAL = 0.8
SKIPPED, COUNTED = 2, 6  # rounds
PATIENCE_S = 300
# What the sites train, by their device. On the CPU 73 million parameters, nearly all of them in the embeddings, so that a step
# takes a second on one core; on a GPU, which the sites share, a d20 with its 561 million.
MODELS = {"cpu": {"layers": 2, "width": 512, "heads": 4}, "cuda": {"layers": 20, "width": 1280, "heads": 10}}
VOCAB = 65536
SETTINGS = {"vocab": VOCAB, "tokens_per_step": 64, "checkpoint_every": "0s", "round_length": "1s", "round_deadline": "120s"}
BYTES = {"fp32": 4, "bf16": 2}
# Linux's own.
UNTUNED = {"tcp_wmem": "4096 16384 4194304", "tcp_rmem": "4096 131072 6291456", "tcp_slow_start_after_idle": "1"}


def parameter_count(layers, width, **_):
    return 2 * VOCAB * width + layers * (12 * width * width + 2)


def exchange_bits_per_s(run, compression, parameters):
    """Median over rounds of what each member sends, and receives, per second of an exchange: a ring of N members sends
    (N − 1)/N of the vector twice."""
    began_s = time.monotonic()
    run.start()
    file = run.folder / "run/hub/rounds.jsonl"

    def merged():
        if run.hub.poll() is not None:
            run.show_logs()
            raise SystemExit("the hub has ended")
        lines = file.read_text().splitlines() if file.exists() else []
        rounds = [json.loads(line) for line in lines]
        together = [entry for entry in rounds if entry["merge"] == "nesterov"]
        return together if len(together) >= SKIPPED + COUNTED else None

    rounds = run.wait(merged, PATIENCE_S)
    if rounds is None:
        run.show_logs()
        raise SystemExit(f"not {SKIPPED + COUNTED} rounds within {PATIENCE_S} s")
    seconds = statistics.median(entry["exchange_s"] for entry in rounds[SKIPPED:])
    members = len(MEMBERS)
    sent_bytes = 2 * (members - 1) / members * parameters * BYTES[compression]
    print(f"  {compression}: {sent_bytes / 1e6:.0f} MB sent by each of {members} members in {seconds:.2f} s "
          f"(median of {len(rounds) - SKIPPED} rounds; {time.monotonic() - began_s:.0f} s in all)", flush=True)
    problems = run.suspend()
    if problems:
        run.show_logs()
        raise SystemExit("; ".join(problems))
    return sent_bytes * 8 / seconds


def compare(title, the_lab, spillway, device, **settings):
    """Prints the rates; returns the least share of one iperf3 stream that an exchange reaches."""
    nodes = list(the_lab.nodes.values())
    one = link_check.iperf3([(nodes[1], nodes[0], nodes[1].address)], 8)[0]["bits_per_s"]
    ring = [result["bits_per_s"] for result in link_check.iperf3(
        [(server, client, server.address) for server, client in zip(nodes[1:] + nodes[:1], nodes)], 8)]
    model = MODELS[device]
    parameters = parameter_count(**model)
    print(f"{title}, {parameters / 1e6:.0f} million parameters: iperf3 {one / 1e6:.0f} Mbit/s alone, "
          f"{min(ring) / 1e6:.0f} to {max(ring) / 1e6:.0f} in a ring of {len(nodes)} streams", flush=True)
    shares = []
    for compression in BYTES:
        run = federation.Federation(the_lab, spillway, lab.NAMESPACES / f"run-{compression}",
                                    ranks=1, device=device, compression=compression, **SETTINGS, **model, **settings)
        rate = exchange_bits_per_s(run, compression, parameters)
        print(f"  {compression}: {rate / 1e6:.0f} Mbit/s per member and direction: {rate / one:.0%} of one stream, "
              f"{rate / min(ring):.0%} of the ring's slowest", flush=True)
        shares.append(rate / one)
        run.remove()
    return min(shares)


def measure(emulator, spillway, where, **settings):
    """`where` is "link", "link-untuned" or "loopback"; what misses the goal."""
    if where == "loopback":
        share = compare(where, lab.Loopback(MEMBERS), spillway, interface="lo", **settings)
    else:
        sysctls = UNTUNED if where == "link-untuned" else None
        share = compare(where, lab.Lab(emulator, MEMBERS, sysctls=sysctls), spillway, **settings)
    return [] if share >= GOAL else [f"{where}: {share:.0%} of iperf3 instead of {GOAL:.0%}"]

"""The command line of ../run, inside its namespaces."""

import argparse
import pathlib
import shutil
import signal
import sys

import faults
import federation
import lab
import leaks
import link_check
import throughput
import tunnel

SOURCE = pathlib.Path(__file__).resolve().parents[3]
SITES = ["california", "texas", "south_australia", "iowa", "scotland", "chile", "inner_mongolia", "tasmania"]
# Formations take 0.5 s instead of 5 s where the way is short, and leave behind the same.
SHORT_DELAY_MS = 0.25


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/fault/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Evidence about federations over emulated wide-area links: three sites and a hub in network namespaces,\n"
                    "60 ms round trip, 1 Gbit/s each. Without a mode: --faults 112, then --leaks 200 (about 75 minutes).",
        epilog="Exit codes: 0 all holds, 1 violations (named), 77 skipped, as namespaces or TUN devices are not permitted.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--faults", type=int, metavar="N", help="inject N faults into a running federation")
    mode.add_argument("--leaks", type=int, metavar="N", help="form and dissolve N epochs and measure the processes")
    mode.add_argument("--throughput", choices=("link", "link-untuned", "loopback"), nargs="?", const="link",
                      help="exchanges of a larger model against iperf3 (default: link); untuned: with Linux's own settings of TCP")
    mode.add_argument("--link", action="store_true", help="what ping and iperf3 find on the emulated links")
    mode.add_argument("--tunnel", action="store_true", help="a short run whose traffic between the nodes is in WireGuard")
    parser.add_argument("--kinds", default=",".join(faults.Injector.KINDS), help="kinds of faults: %(default)s")
    parser.add_argument("--minutes", type=float, metavar="M",
                        help="for --faults: inject no more once the rest of so many minutes is needed for the closing comparison")
    parser.add_argument("--seed", type=int, default=1, help="of the sequence of faults (%(default)s)")
    parser.add_argument("--delay", type=float, default=15, metavar="MS",
                        help="of a link one way, for --faults: a quarter of the round trip between two nodes (%(default)s)")
    parser.add_argument("--sites", type=int, default=3, choices=range(2, len(SITES) + 1), metavar="N",
                        help="2 to 8, but for --throughput (%(default)s)")
    parser.add_argument("--ranks", type=int, default=2, metavar="N", help="of each site, but for --throughput and --tunnel (%(default)s)")
    parser.add_argument("--overlap", action="store_true", help="training goes on during exchanges (federation.overlap), for --faults")
    parser.add_argument("--streams", type=int, default=1, metavar="N", help="federation.streams of the hub (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                        help="of the sites, for --throughput: 73 million parameters on the CPU, a d20's 561 million on a GPU (%(default)s)")
    parser.add_argument("--build", type=pathlib.Path, default=SOURCE / "build", help="build folder (%(default)s)")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="copy the programs' logs to this new folder")
    options = parser.parse_args()
    unknown = set(options.kinds.split(",")) - set(faults.Injector.KINDS)
    if unknown:
        parser.error(f"--kinds: unknown: {', '.join(sorted(unknown))}")
    if options.keep and options.keep.exists():
        parser.error(f"--keep: {options.keep} exists already")
    return options


def inject(run, options):
    campaign = faults.Campaign(run, options.seed, options.kinds.split(","), options.minutes)
    try:
        campaign.go(options.faults)
        campaign.finish()
    finally:
        campaign.print_table()
    return campaign.violations


def names(sites):
    return ["hub", *SITES[:sites]]


def with_federation(options, delay_ms, work, **settings):
    """Runs `work` with a federation in a lab; shows the logs where it finds violations."""
    the_lab = lab.Lab(options.build / "tests/fault/link_emulator", names(options.sites), delay_ms=delay_ms)
    run = federation.Federation(the_lab, options.build / "spillway", lab.NAMESPACES / "run", ranks=options.ranks,
                                streams=options.streams, **settings)
    violations = ["it did not come to its end"]
    try:
        violations = work(run)
    finally:
        if violations:
            run.show_logs()
        if options.keep:
            shutil.copytree(run.logs, options.keep)
    return violations


def work(options):
    emulator, spillway = options.build / "tests/fault/link_emulator", options.build / "spillway"
    if options.link:
        return link_check.check(lab.Lab(emulator, names(options.sites)))
    if options.throughput:
        return throughput.measure(emulator, spillway, options.throughput, device=options.device, streams=options.streams)
    if options.tunnel:
        the_lab = lab.Lab(emulator, names(options.sites))
        return tunnel.check(the_lab, lambda **settings: federation.Federation(
            the_lab, spillway, lab.NAMESPACES / "run", **settings))
    if options.leaks:
        return with_federation(options, SHORT_DELAY_MS, lambda run: leaks.measure(run, options.leaks), round_length="1s")
    more = "overlap = on" if options.overlap else ""
    return with_federation(options, options.delay, lambda run: inject(run, options), more=more)


def main():
    options = arguments()
    # mpirun does not unblock signals: where they are blocked here, no site would hear that it is to suspend.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    lab.NAMESPACES.mkdir()
    violations = work(options)
    for violation in violations:
        print(f"VIOLATION: {violation}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Tables of policies over the third-party traces: traces/policies.py [FOLDER]   (default ../shared/traces)

Runs `spillway simulate` and prints Markdown. SPILLWAY names the program (default build/spillway).
"""
import json
import os
import pathlib
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SPILLWAY_REAL_TRACES", root / "../shared/traces"))
program = os.environ.get("SPILLWAY", str(root / "build/spillway"))

# The study's node with our costs: it starts in 60 s, stops in 30 s, loses 1.5 % of rounds.
COSTS = ["--site.train-power", "2024", "--site.idle-power", "468", "--simulate.tokens-per-s", "192e3",
         "--gate.grace", "30s", "--simulate.round-loss", "0.015"]


def simulate(*arguments):
    command = [program, "simulate", "--format", "json", *COSTS, *arguments]
    if not any(argument.startswith("--simulate.start-delay") for argument in arguments):
        command.append("--simulate.start-delay=60s")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def row(name, run):
    hours = f"{run['runtime_h']:.0f}" if run["finished"] else "not"
    kg = f"{run['emissions_kg']:.1f}" if run["emissions_kg"] is not None else "unknown"
    per = f"{run['emissions_kg'] / run['energy_kwh'] * 1000:.0f}" if run["emissions_kg"] is not None else "–"
    print(f"| {name} | {hours} | {run['tokens'] / 1e9:.1f} | {run['energy_kwh']:.0f} | "
          f"{100 * run['in_window_energy_fraction']:.1f} % | {run['starts']} | {kg} | {per} |")


def table(title, *arguments, more=()):
    print(f"\n{title}\n")
    print("| policy | finished after, h | 1e9 tokens | kWh | in windows | starts | kg CO2 | g/kWh |")
    print("|---|---|---|---|---|---|---|---|")
    run = simulate("--all-policies", "--policy", "reactive", *arguments)
    for name in ("reactive", "hysteresis", "forecast"):
        row("forecast (yesterday's)" if name == "forecast" else name, run["policies"][name])
    for name, extra in more:
        row(name, simulate(*arguments, *extra))
    for name in ("foresight", "oracle"):
        row(name, run["policies"][name])
    for name, baseline in run["baselines"].items():
        if not name.startswith("wait-awhile") and "+" not in name:
            row(f"{name}, always on" if name != "random windows" else name, baseline)


def ini(name, text):
    path = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"spillway-policies-{os.getpid()}-{name}.ini"
    path.write_text(text)
    return path


def main():
    sgip = folder / "sgip_moer_caiso_5min_2020.csv"
    path = ini("sgip", "[local]\nsites = pge, sce\n[site.pge]\nsignal.region = SGIP_CAISO_PGE_gco2_kwh\n"
                       "[site.sce]\nsignal.region = SGIP_CAISO_SCE_gco2_kwh\n")
    for minutes in (15, 60):
        table(f"SGIP 2020, PGE and SCE, opens below 50 g/kWh, closes at 150, minimum {minutes} min, 5e11 tokens",
              "--config", str(path), "--signal.file", str(sgip), "--gate.open-below", "50", "--gate.close-above", "150",
              "--gate.min-length", f"{minutes}m", "--tokens", "5e11")
    path.unlink()

    prices = folder / "prices_hourly_utc_2024.csv"
    regions = {"caiso": "caiso_np15_da_usd_mwh", "ercot": "ercot_hubavg_da_usd_mwh", "de": "de_lu_da_eur_mwh",
               "vic": "au_vic_rrp_aud_mwh"}
    text = "[local]\nsites = " + ", ".join(regions) + "\n"
    for site, region in regions.items():
        text += f"[site.{site}]\nsignal.region = {region}\n"
    path = ini("prices", text)
    table("Prices 2024, four sites, opens below 0 per MWh, closes at 10, minimum 3 h, 2e12 tokens", "--config", str(path),
          "--signal.file", str(prices), "--gate.open-below", "0", "--gate.close-above", "10", "--gate.min-length", "3h",
          "--tokens", "2e12")
    path.unlink()
    carbon = {"caiso": "US-CAL-CISO_2024_hourly.csv", "de": "DE-LU_2024_hourly.csv"}
    text = "[local]\nsites = caiso, de\n"
    for site, name in carbon.items():
        text += f"[site.{site}]\nsignal.region = {regions[site]}\nemissions.file = {folder / name}\n"
    path = ini("carbon", text)
    table("Prices 2024, CAISO and Germany, the same gate, minimum 3 h, emissions by average intensity, 4e11 tokens", "--config", str(path),
          "--signal.file", str(prices), "--gate.open-below", "0", "--gate.close-above", "10", "--gate.min-length", "3h",
          "--tokens", "4e11")
    path.unlink()

    april = folder / "SGIP_CAISO_PGE_2021-04.csv.gz"
    for delay, minutes in (("60s", 30), ("600s", 60)):
        table(f"SGIP April 2021 with its issued forecasts, PGE, opens below 50 g/kWh, closes at 150, minimum {minutes} min, "
              f"start {delay}, no token goal", "--signal.file", str(april), "--gate.open-below", "50", "--gate.close-above",
              "150", "--gate.min-length", f"{minutes}m", "--tokens", "1e15", "--simulate.start-delay=" + delay,
              more=[(f"forecast (issued), confidence {c}", ("--policy", "forecast", "--simulate.forecast", "file",
                                                           "--simulate.confidence", str(c))) for c in (0.25, 0.5, 0.75)])


main()

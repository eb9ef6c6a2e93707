"""Three sites as three clusters, three windows each, federated where they overlap, the hub a batch job of a fourth."""

import json
import sys
import time

from lab import SOURCE, TOKENS_PER_STEP, Lab, seconds, wait_for

SITES = ("chile", "hokkaido", "texas")
LENGTH_S, PERIOD_S, STAGGER_S, LEAD_S = 14, 20, 4, 5


def merged_blocks(lab):
    """{site: blocks} and the newest model of the hub's journal; no block may be merged twice."""
    merged, seen, model = {site: 0 for site in SITES}, set(), None
    federated = 0
    for line in (lab.root / "run/hub/journal.jsonl").read_text().splitlines():
        entry = json.loads(line.split(" ", 1)[1])  # after the line's checksum
        if entry.get("type") != "commit":
            continue
        federated += len(entry["sites"]) > 1
        for site, work in entry["sites"].items():
            for first, end in work["blocks"]:
                blocks = set(range(first, end))
                assert not blocks & seen, f"blocks merged twice: {sorted(blocks & seen)}"
                seen |= blocks
                merged[site] += end - first
        model = entry
    return merged, seen, model, federated


def check_windows(lab, site, plan):
    """Slurm's records of a site against its windows."""
    records = [record for record in lab.records(site) if record.get("ArrayTaskId")]
    assert len(records) == 3, records
    previous_end = 0
    for (opens, closes), record in zip(plan, sorted(records, key=lambda r: int(r["ArrayTaskId"]))):
        start, end = seconds(record["StartTime"]), seconds(record["EndTime"])
        print(f"{site} {record['ArrayJobId']}_{record['ArrayTaskId']}: started {start - opens:+.0f} s after the opening, "
              f"ended {closes - end:.0f} s before the close, exit code {record['ExitCode']}, nodes {record['NodeList']}")
        assert opens <= start < closes, "started outside its window"
        assert end <= closes, "ended after its window"
        assert start >= previous_end, "two tasks of one site at once"
        assert record["ExitCode"] == "75:0" and record["NodeCnt"] == "2", record
        previous_end = end


def check_checkpoints(lab, site):
    """Each job went on from the last one's checkpoint; returns the tokens of the site."""
    document = lab.inspect("run", site)
    jobs = document["lineage"]
    assert len(jobs) == 3, jobs
    digests = [line.split("digest ")[1][:12] for line in lab.log("run", site).splitlines()
               if "checkpoint " in line and "(periodic)" not in line and "digest" in line]
    assert len(digests) == 3, digests
    assert not jobs[0]["parent_digest"]
    for job, digest in zip(jobs[1:], digests):
        assert job["parent_digest"].startswith(digest), (job, digest)
    assert document["progress"]["suspends"] == 3
    assert sum(job["tokens"] for job in jobs) == document["progress"]["tokens"]
    return document


def main(spillway):
    with Lab(spillway, "chile:2", "hokkaido:2", "texas:2", "always:1", LAB_KILL_WAIT="20") as lab:
        config = lab.write_run(more=f"""
[federation]
hub = 127.0.0.1:{lab.port + 500}
port-min = {lab.port + 510}
port-count = 480
round-length = 1s
round-deadline = 8s
lease-steps = 20
""")
        lab.run("sbatch", f"--output={lab.root}/hub.log", SOURCE / "slurm/hub.sbatch", "--config", config, cluster="always")
        wait_for("the hub runs", lambda: "hub on port" in (lab.root / "hub.log").read_text()
                 if (lab.root / "hub.log").exists() else False)
        base, plans = int(time.time()) + 6, {"sites": []}
        for number, site in enumerate(SITES):
            opens = [base + number * STAGGER_S + k * PERIOD_S for k in range(3)]
            plans["sites"].append({"name": site, "windows": [{"start_unix_s": o, "end_unix_s": o + LENGTH_S} for o in opens]})
            (lab.root / f"{site}.sh").write_text(f"export SLURM_CONF={lab.conf(site)} SPILLWAY_NODES=2\n")
        (lab.root / "plan.json").write_text(json.dumps(plans))
        print(lab.run(SOURCE / "slurm/federation.sh", "--config", config, *[f"{s}={lab.root}/{s}.sh" for s in SITES],
                      "--", "--plan", lab.root / "plan.json", "--lead", str(LEAD_S), "--spare", "1"))
        for site in SITES:
            wait_for(f"{site} has run its windows",
                     lambda site=site: sum("ArrayTaskId" in record for record in lab.records(site)) == 3, 150)

        trained, cut_off = {}, False
        for plan in plans["sites"]:
            site = plan["name"]
            check_windows(lab, site, [(w["start_unix_s"], w["end_unix_s"]) for w in plan["windows"]])
            trained[site] = check_checkpoints(lab, site)["progress"]["tokens"]
            cut_off = cut_off or "could not be merged" in lab.log("run", site) or "without the federation" in lab.log("run", site)
        merged, seen, model, federated = merged_blocks(lab)
        print(f"merged blocks {merged}, {federated} federated merges, trained tokens {trained}, cut off: {cut_off}")
        assert federated > 0, "the sites never trained together"
        assert len(seen) == model["blocks"], (len(seen), model["blocks"])
        for site in SITES:
            assert 0 < merged[site] * TOKENS_PER_STEP <= trained[site]
            assert cut_off or merged[site] * TOKENS_PER_STEP == trained[site]

        hub = next(iter(lab.run("squeue", "--noheader", "--format", "%A", cluster="always").split()))
        lab.run("scancel", hub, cluster="always")
        wait_for("the hub has ended by itself", lambda: "the hub ended with status 75" in (lab.root / "hub.log").read_text(), 30)
        lab.run(SOURCE / "slurm/federation.sh", "--cancel", "--config", config, *[f"{s}={lab.root}/{s}.sh" for s in SITES])
        for site in SITES:
            wait_for(f"no task of {site} is left", lambda site=site: not lab.live(site), 30)


if __name__ == "__main__":
    main(sys.argv[1])

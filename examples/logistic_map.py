"""An array of jobs from Python, and a picture of what they found: run it as it is, or cell by cell as a notebook.

Each job iterates the logistic map x → r·x·(1 − x) for one growth rate r and prints where x ends up: one value, two,
four, and then chaos. Wants a pool (`swarmhpc login` or `swarmhpc up`), matplotlib, and nothing else.
"""

# %% The pool that this machine knows
import os
from pathlib import Path

from swarmhpc import Pool

pool = Pool()
print(f"pool {pool.name}, I am {pool.person}")
cpus = {slot.executor: slot.total_cpus for slot in pool.slots() if slot.partitionable}
print(f"{len(cpus)} executors with {sum(cpus.values())} CPUs")

# %% One job a rate; the program is in the image, so nothing has to travel
JOBS = int(os.environ.get("JOBS", "40"))
rates = [round(2.8 + 1.19 * i / (JOBS - 1), 4) for i in range(JOBS)]
folder = Path("logistic")
folder.mkdir(exist_ok=True)

program = "BEGIN { x = 0.5; for (i = 0; i < 1100; i++) { x = r * x * (1 - x); if (i >= 1000) print x } }"

description = f"""
universe       = docker
docker_image   = debian
executable     = /usr/bin/awk
arguments      = "-v r=$(r) '{program}'"
output         = {folder}/$(r).txt
error          = {folder}/$(r).err
request_cpus   = 1
request_memory = 32MB
request_disk   = 10MB
batch_name     = logistic
queue r in ({", ".join(map(str, rates))})
"""
submission = pool.submit(description)
print(f"{submission.jobs} jobs submitted as cluster {submission.ids[0]}")


# %% Wait: a line for each change
def show(outcome):
    for cluster in outcome.clusters:
        print(f"{cluster.done} of {cluster.total} done, {cluster.running} running, {cluster.idle} waiting")


outcome = submission.wait(on_change=show)
for job in outcome.failed:
    print(f"{job.id} {job.state}: {job.hold_reason or job.exit_code}; {pool.why(job.id)[0].message}")

# %% Results come to where the description names them
fetched = submission.fetch()
print(f"fetched {len(fetched)} results, {sum(job.run_time_s for job in fetched)} s of run time in all")

# %% Plot them
import matplotlib.pyplot as plt  # noqa: E402 - a notebook imports where it uses

ends = {rate: [float(x) for x in (folder / f"{rate}.txt").read_text().split()] for rate in rates}
figure, axes = plt.subplots(figsize=(8, 5))
for rate, values in ends.items():
    axes.plot([rate] * len(values), values, ".k", markersize=2)
axes.set(xlabel="growth rate r", ylabel="x after 1,000 steps", title=f"Logistic map: {len(ends)} jobs")
figure.savefig(folder / "logistic.png", dpi=150)
print(f"wrote {folder / 'logistic.png'}")

"""Publish 1,000 samples, read the last one back, find them all in the history. The plant must be up."""

import time

import tagwerk

with tagwerk.attach(writer="lab") as plant:
    start_ns = time.time_ns()
    times = [start_ns + i * 1_000 for i in range(1_000)]
    plant.publish(plant.samples("lab.probe0", [i / 10 for i in range(1_000)], times))
    print("now:", plant.read("lab.probe0"))
    found = plant.history("lab.probe0", start_ns, time.time_ns())["lab.probe0"]
    print("in the history:", len(found), "samples, from", found.values[0], "to", found.values[-1])

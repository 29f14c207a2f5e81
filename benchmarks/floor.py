"""The floor alone: the same work with bare libraries. Its code is `tagwerk.runtime.bench.floor`.

Run `python -m benchmarks.floor` from the checkout.
"""

from __future__ import annotations

from tagwerk.runtime.bench.suite import RATE_HZ, TAGS, TIMED_TAGS, Sizes
from tagwerk.runtime.bench.tasks import SINGLES_WINDOW, WINDOW, Asks, Flow
from tagwerk.runtime.bench.work import measured

if __name__ == "__main__":
    for batch, messages in Sizes().flows:
        seen = measured(Flow(batch, messages, tags=TAGS, window=WINDOW if batch > 1 else SINGLES_WINDOW)).seen[0]
        print(f"batches of {batch}: {seen.rate:,.0f} samples/s")
    seen = measured(Flow(1, Sizes().timed, RATE_HZ, TIMED_TAGS)).seen[0]
    print(f"latency at {RATE_HZ:,.0f} messages/s: p50 {seen.p50_ms:.3f} ms, p99 {seen.p99_ms:.3f} ms")
    asked = sorted(measured(Asks(Sizes().asks)).figures)
    print(f"ask: p50 {asked[len(asked) // 2]:.0f} us")

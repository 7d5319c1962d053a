"""Opens and closes attempts in a loop until it is killed; says each finished answer on standard output, when it is durable."""

from __future__ import annotations

import sys
from pathlib import Path

from isthmus.contracts.price import Usage
from isthmus.kit.clock import SystemClock
from tests.ledger.world import ONE, new_meter, opened


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    meter = new_meter(folder, SystemClock(), amount=0)
    meter.recover(meter.clock.now_s())
    number = 0
    while True:
        request_id = f"{name}-{number}"
        opened(meter, request_id, worst_case=Usage(inferences=2))
        sys.stdout.write(f"opened {request_id}\n")
        if number % 5 == 4:
            meter.void(request_id, "the engine failed")
            sys.stdout.write(f"voided {request_id}\n")
        else:
            meter.close(request_id, ONE, "reported")
            sys.stdout.write(f"finished {request_id}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main()

from soak.campaign import Result, Tick, ignore


def run(count: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    raise NotImplementedError

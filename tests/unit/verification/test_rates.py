"""How often a caller of the portal may ask."""

from services.portal.rates import RateLimiter


def test_bursts_are_twice_the_rate_and_refill_with_time() -> None:
    now = [0.0]
    limiter = RateLimiter(2, clock=lambda: now[0])
    assert [limiter.wait_s("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    # Another caller has a bucket of its own.
    assert limiter.wait_s("b") == 0
    now[0] += 0.25
    assert limiter.wait_s("a") == 0.25
    now[0] += 0.25
    assert [limiter.wait_s("a"), limiter.wait_s("a")] == [0, 0.5]
    now[0] += 3600
    assert [limiter.wait_s("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_a_slow_rate_still_lets_one_question_in() -> None:
    now = [0.0]
    limiter = RateLimiter(0.1, clock=lambda: now[0])
    assert [limiter.wait_s("a"), limiter.wait_s("a")] == [0, 10]
    now[0] += 10
    assert limiter.wait_s("a") == 0

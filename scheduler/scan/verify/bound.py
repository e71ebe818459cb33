"""What a sample proves: an upper bound for the share of bad objects. PURE.

Owns the exact binomial bound (Clopper and Pearson, 1934): with `bad` of `sampled` objects bad, the true share
is at most the answer with the given confidence. It holds for a simple random sample without regard to the
size of the population, so it is careful for small ones.
"""

from __future__ import annotations

import math


def upper_bound(sampled: int, bad: int, *, confidence: float = 0.99) -> float:
    """The largest share of bad objects that still gives `bad` or fewer of `sampled` with 1 - confidence."""
    if sampled <= 0 or bad >= sampled:
        return 1.0
    if bad == 0:
        return float(1 - (1 - confidence) ** (1 / sampled))
    low, high = bad / sampled, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(sampled, bad, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(number: int, bad: int, share: float) -> float:
    """The probability of `bad` or fewer bad ones of `number`, when `share` of all are bad."""
    if share >= 1:
        return 0.0
    log_share, log_rest = math.log(share), math.log1p(-share)
    total = 0.0
    for k in range(bad + 1):
        ways = math.lgamma(number + 1) - math.lgamma(k + 1) - math.lgamma(number - k + 1)
        total += math.exp(ways + k * log_share + (number - k) * log_rest)
    return total

"""What all tests share: property tests try the same examples every time, on any machine.

`pytest --hypothesis-profile=default` looks for new ones at random.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline and no complaint about slow examples: how fast a machine is says nothing about the code.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

"""Settings of hypothesis for all tests.

A run of the suite tries the same examples each time, so that it says something about the change and
nothing about luck. To look for new ones: `pytest --hypothesis-profile=explore`, and what it finds
goes into the test as an example.
"""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", settings.get_profile("default"), print_blob=True)
settings.load_profile("repeatable")

"""Settings of all tests."""

from hypothesis import settings

from holdfast.testing.strategies import examples

# The same examples in every run, and none that fails because the machine was busy with others.
settings.register_profile("holdfast", examples(100))
settings.load_profile("holdfast")

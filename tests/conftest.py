from hypothesis import settings

# A busy machine is slow, not wrong: no assertion here is on elapsed time. The rest is Hypothesis' own choice, which
# under CI is to repeat the same examples.
settings.register_profile("medtrail", settings.default, deadline=None)
settings.load_profile("medtrail")

"""The kernel of medtrail: all it takes to make or check evidence about a medicine's way."""

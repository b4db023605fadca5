import pytest

from tests.unit.projections.story import CASE, PALLET, Story, pack


@pytest.fixture
def story() -> Story:
    """A story without events."""
    return Story()


@pytest.fixture
def shipped(story: Story) -> Story:
    """Two packs in a case on a pallet, shipped to the wholesaler."""
    story.commission(pack("1"), pack("2"))
    story.commission(CASE, PALLET, lot="")
    story.put(CASE, pack("1"), pack("2"))
    story.put(PALLET, CASE)
    story.ship(PALLET)
    return story

"""Weighted links in one pool, at most M per item."""

from __future__ import annotations

from eddyline.model.links import FIRST_ROOM, Links, find_link, grow_items, grow_pool, new_links, touch_link

MOST = 16


def targets(links: Links, source: int) -> dict[int, float]:
    block = slice(links.start[source], links.start[source] + links.used[source])
    return dict(zip(links.target[block].tolist(), links.weight[block, 0].tolist(), strict=True))


def add(links: Links, source: int, target: int, weight: float) -> None:
    links.weight[touch_link(links, source, target, MOST), 0] += weight


def test_a_link_starts_at_zero_and_is_found_again() -> None:
    links = new_links(2, 3)
    assert find_link(links, 0, 7) == -1
    slot = touch_link(links, 0, 7, MOST)
    assert links.weight[slot].tolist() == [0, 0, 0]
    assert find_link(links, 0, 7) == slot == touch_link(links, 0, 7, MOST)
    assert find_link(links, 1, 7) == -1


def test_a_full_block_moves_with_its_weights_and_doubles_up_to_m() -> None:
    links = new_links(2, 1)
    for n in range(MOST):
        add(links, 0, n, 1.0 + n)
        add(links, 1, n, 100.0)
        assert targets(links, 0) == {k: 1.0 + k for k in range(n + 1)}
    assert links.room.tolist() == [MOST, MOST]
    assert links.end[0] == 2 * (FIRST_ROOM + MOST)


def test_at_m_the_lightest_link_gives_way() -> None:
    links = new_links(1, 1)
    for n in range(MOST):
        add(links, 0, n, 5.0 if n != 3 else 2.0)
    add(links, 0, 99, 1.0)
    assert set(targets(links, 0)) == {*range(MOST), 99} - {3}
    assert targets(links, 0)[99] == 1.0
    add(links, 0, 98, 1.0)
    assert 99 not in targets(links, 0)


def test_growing_keeps_every_link() -> None:
    links = new_links(1, 1, pool=32)
    for n in range(5):
        add(links, 0, n, n)
    before = targets(links, 0)
    links = grow_items(grow_pool(links, 64), 3)
    assert targets(links, 0) == before
    assert targets(links, 2) == {}
    add(links, 2, 4, 9.0)
    assert targets(links, 2) == {4: 9.0}
    assert targets(links, 0) == before

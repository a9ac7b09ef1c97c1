"""The order of a project's files, and how a large one is cut."""

from hypothesis import given
from hypothesis import strategies as st

from curation.project.order import (
    components,
    cut_parts,
    dependency_order,
    is_test,
    project_order,
    random_order,
)


@st.composite
def graphs(draw):
    names = [f"f{n}" for n in range(draw(st.integers(0, 12)))]
    if not names:
        return {}
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=40))
    return {name: sorted({b for a, b in pairs if a == name and b != name}) for name in names}


def reached(edges, start):
    found, waiting = set(), [start]
    while waiting:
        for other in edges[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


@given(graphs())
def test_a_file_stands_before_what_it_needs_only_in_a_cycle(edges):
    order = dependency_order(edges)
    assert sorted(order) == sorted(edges)
    place = {path: at for at, path in enumerate(order)}
    for path, needed in edges.items():
        for other in needed:
            assert place[other] < place[path] or path in reached(edges, other)


@given(graphs(), st.randoms())
def test_the_order_does_not_depend_on_how_files_were_found(edges, random):
    names = list(edges)
    random.shuffle(names)
    assert project_order({name: edges[name] for name in names}) == project_order(edges)


@given(graphs())
def test_parts_that_know_nothing_of_each_other_stay_apart(edges):
    parts = components(edges)
    assert sorted(p for part in parts for p in part) == sorted(edges)
    of = {path: number for number, part in enumerate(parts) for path in part}
    assert all(of[a] == of[b] for a, needed in edges.items() for b in needed)


@given(graphs(), st.integers(1, 60), st.data())
def test_every_file_is_in_a_part_and_parts_keep_to_the_budget(edges, budget, data):
    sizes = {path: data.draw(st.integers(1, 30)) for path in edges}
    order = dependency_order(edges)
    parts = cut_parts(order, edges, sizes, budget)
    assert {path for part in parts for path in part} == set(edges)
    place = {path: at for at, path in enumerate(order)}
    for part in parts:
        assert part == sorted(part, key=place.__getitem__) and len(set(part)) == len(part)
        assert sum(sizes[p] for p in part) <= budget or len(part) == 1
    repeated = sum(sizes[p] for part in parts for p in part) - sum(sizes.values())
    assert repeated <= 0.25 * budget * max(len(parts) - 1, 0)


def test_a_cut_part_has_again_what_its_files_need():
    edges = {"a": [], "b": ["a"], "c": [], "d": ["a"]}
    parts = cut_parts(["a", "b", "c", "d"], edges, {"a": 2, "b": 5, "c": 5, "d": 3}, 10)
    assert parts == [["a", "b"], ["a", "c", "d"]]


def test_documents_come_first_and_tests_after_what_they_test():
    edges = {
        "README.md": [], "src/b.py": ["src/a.py"], "src/a.py": [], "tests/test_a.py": ["src/a.py"],
        "tests/alone_test.py": [], "LICENSE": [], "setup.py": [],
    }  # fmt: skip
    assert project_order(edges) == [
        ["README.md", "LICENSE"],
        ["src/a.py", "src/b.py", "tests/test_a.py"],
        ["setup.py"],
        ["tests/alone_test.py"],
    ]


def test_names_of_tests():
    for path in (
        "tests/a.py",
        "a/test_b.py",
        "x_test.go",
        "spec/a_spec.rb",
        "a.test.ts",
        "T/x.spec.js",
    ):
        assert is_test(path), path
    for path in ("src/testing_ground.py", "contest.py", "latest/a.py"):
        assert not is_test(path), path


def test_chance_depends_on_seed_and_project_alone():
    names = [f"f{n}" for n in range(50)]
    once = random_order(names, 1, "p")
    assert once == random_order(names[::-1], 1, "p") and sorted(once) == sorted(names)
    assert once != random_order(names, 2, "p") != random_order(names, 2, "q")


def test_a_long_chain_and_a_large_ring_are_ordered_without_recursion():
    chain = {f"{n:06}": [f"{n + 1:06}"] if n < 50_000 else [] for n in range(50_001)}
    assert dependency_order(chain) == sorted(chain, reverse=True)
    ring = {f"{n:06}": [f"{(n + 1) % 50_000:06}"] for n in range(50_000)}
    assert len(dependency_order(ring)) == 50_000

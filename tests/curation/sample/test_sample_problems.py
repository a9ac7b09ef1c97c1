"""Documents of problems: functions of seed and index, all different, readable."""

import re

import pytest

from curation.sample.problems import problem_document


def test_a_document_is_a_function_of_seed_and_index():
    assert problem_document(3, 17) == problem_document(3, 17)
    assert problem_document(3, 17) != problem_document(4, 17)


def test_a_thousand_documents_are_all_different_and_hold_three_to_eight_problems():
    texts = [problem_document(0, index) for index in range(1000)]
    bodies = {text.partition("\n")[2] for text in texts}
    assert len(bodies) == 1000
    for text in texts:
        counts = re.findall(r"^(?:Problem|Exercise|Question|Task) (\d+)\. ", text, re.MULTILINE)
        assert counts == [str(k + 1) for k in range(len(counts))]
        assert 3 <= len(counts) <= 8


def test_the_whole_text_of_a_document_adds_up(equalities):
    checked = sum(equalities(problem_document(1, index)) for index in range(300))
    assert checked > 1500


def test_half_of_the_documents_are_typed_with_plain_signs():
    texts = [problem_document(0, index) for index in range(400)]
    plain = sum(text.isascii() or not re.search("[−×÷]", text) for text in texts)
    assert 140 < plain < 260


@pytest.mark.parametrize("wrong", ["So 3 + 4 = 8.", "It costs 3 × 4 = $13.", "(−2)^3 = 8"])
def test_the_checker_of_these_tests_sees_a_wrong_step(wrong, equalities):
    with pytest.raises(AssertionError):
        equalities(wrong)

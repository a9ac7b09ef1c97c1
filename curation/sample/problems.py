"""Documents of generated problems: arithmetic and algebra in words, worked step by step.

Document `index` of a seed holds three to eight problems under one of a few headings, the way sheets
of exercises do. Everything in it is a function of (seed, index); every answer was checked by an
independent computation when it was made (`dice.checked`), so a document with a wrong answer cannot
come into being. The texts are ours and are given away (CC0).
"""

from . import algebra, arithmetic
from .dice import Dice

SOURCE = "generated-problems"

_TOPICS = (
    (("Arithmetic practice", "Numbers and quantities", "Everyday arithmetic"), arithmetic.KINDS),
    (("Algebra exercises", "Equations and sequences", "Algebra practice"), algebra.KINDS),
    (
        ("Mixed problems", "Review sheet", "Worked problems", "Homework with solutions"),
        arithmetic.KINDS + algebra.KINDS,
    ),
)
_LABELS = (
    ("Problem", "Solution", "Answer"),
    ("Exercise", "Working", "Result"),
    ("Question", "Steps", "Answer"),
    ("Task", "Solution", "So the answer is"),
)

# Half of the documents are as one would type them.
_TYPED = str.maketrans({"−": "-", "×": "*", "÷": "/"})


def problem_document(seed: int, index: int) -> str:
    """The text of a document of three to eight worked problems, a function of seed and index.

    Raises `dice.WrongAnswer` if an answer fails its check.
    """
    dice = Dice("problems", seed, index)
    titles, kinds = dice.pick(_TOPICS)
    question, solution, answer = dice.pick(_LABELS)
    listed, typed = dice.below(2), dice.below(2)
    parts = [f"{dice.pick(titles)} {index + 1}"]
    for k in range(dice.between(3, 8)):
        problem = dice.pick(kinds)(dice)
        if listed:
            steps = "\n" + "\n".join(f"{n}. {step}" for n, step in enumerate(problem.steps, 1))
        else:
            steps = " " + " ".join(problem.steps)
        parts.append(
            f"{question} {k + 1}. {problem.question}\n{solution}:{steps}\n"
            f"{answer}: {problem.answer}."
        )
    text = "\n\n".join(parts) + "\n"
    return text.translate(_TYPED) if typed else text

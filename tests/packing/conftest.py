import pytest

from tok import Encoder, count_words, train_tokenizer, weigh

TEXT = "def add(a, b):\n    return a + b\n\n\ndef main():\n    print(add(1, 2))  # 漢字 ไทย\n"


@pytest.fixture(scope="session")
def encoder():
    counts = weigh(count_words([TEXT * 3], ["all"], "multilingual"))
    return Encoder(train_tokenizer(counts, 320, "multilingual"))

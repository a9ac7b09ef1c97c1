"""What the tests of the encoder and of the exports share."""

import pytest

from tok import SCHEMES


@pytest.fixture(scope="module", params=SCHEMES)
def scheme(request):
    return request.param

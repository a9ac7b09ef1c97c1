import torch

from model.average import Average
from model.transformer import Transformer


def test_the_average_is_a_mean_at_first_and_then_forgets(small):
    model = Transformer(small(num_hidden_layers=1, num_nextn_predict_layers=0))
    average = Average(model, 0.75)
    name = "model.norm.weight"
    expected, values = None, [3.0, 5.0, 1.0, 9.0, 2.0, 7.0]
    for count, value in enumerate(values, 1):
        with torch.no_grad():
            model.model["norm"].weight.fill_(value)
        average.update(model)
        if count <= 4:
            expected = sum(values[:count]) / count
        else:
            expected = 0.75 * expected + 0.25 * value
        torch.testing.assert_close(average.tensors[name], torch.full((64,), expected))
    # The routers' biases too: every tensor of the model's state is in it.
    assert average.tensors.keys() == model.state_dict().keys()


def test_a_model_holds_the_average_for_a_while_and_gets_its_own_back(small, build, tokens):
    model = build(small())
    average = Average(model, 0.5)
    average.update(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    places = [p.data_ptr() for p in model.parameters()]
    with average.within(model):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, own[name])
    assert places == [p.data_ptr() for p in model.parameters()]


def test_the_average_is_float32_on_the_cpu_whatever_the_model_is(small):
    model = Transformer(small()).to(torch.bfloat16)
    average = Average(model, 0.9)
    average.update(model)
    kinds = {(tensor.dtype, tensor.device.type) for tensor in average.tensors.values()}
    assert kinds == {(torch.float32, "cpu")}

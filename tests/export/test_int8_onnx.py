"""Parts of an ONNX file that go back to float where accuracy falls."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastervit_backbone.export.int8_onnx import quantize

PARTS = ('model.stem.fc', 'model.neck.fc', 'model.head.fc_cls')


def write_model(path):
    """Write products with weights in three modules, one after the other."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node('Cast', ['images'], ['x0'], to=TensorProto.FLOAT)]
    weights = []
    for i, module in enumerate(PARTS):
        node = helper.make_node('MatMul', [f'x{i}', f'w{i}'], [f'x{i + 1}'], name=f'product{i}')
        scopes = str(['', module.rpartition('.')[0], module, 'linear'])
        node.metadata_props.add(key='pkg.torch.onnx.name_scopes', value=scopes)
        nodes.append(node)
        weights.append(numpy_helper.from_array(rng.normal(size=(3, 3)).astype(np.float32), f'w{i}'))
    images = helper.make_tensor_value_info('images', TensorProto.UINT8, [1, 4, 4, 3])
    result = helper.make_tensor_value_info('x3', TensorProto.FLOAT, [1, 4, 4, 3])
    graph = helper.make_graph(nodes, 'g', [images], [result], weights)
    opsets = [helper.make_opsetid('', 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def float_products(path):
    """Return the products whose weights are no 8-bit numbers."""
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return {node.name for node in graph.node if node.op_type == 'MatMul' and node.input[1] in weights}


@pytest.mark.parametrize('symmetric', [False, True])
def test_parts_return_to_float_until_the_metric_is_back(tmp_path, symmetric):
    path = tmp_path / 'model.onnx'
    write_model(path)
    batches = [np.random.default_rng(i).integers(0, 256, (1, 4, 4, 3), np.uint8) for i in range(3)]
    # all in 8 bits; each part alone in float, by name: neck, stem; then the better one
    changes = iter((-0.05, -0.001, -0.04, -0.001))
    exported = SimpleNamespace(session=None)
    result = quantize(path, exported, batches, lambda _: next(changes), 0.01, symmetric)
    assert result.products == 3
    assert result.kept == ['head.fc_cls (last layer)', 'neck.fc (for accuracy)']
    assert float_products(path) == {'product1', 'product2'} and next(changes, None) is None
    assert [p.name for p in tmp_path.iterdir()] == ['model.onnx']


def test_without_truth_all_but_the_last_layers_are_8_bits(tmp_path):
    path = tmp_path / 'model.onnx'
    write_model(path)
    batches = [np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)]
    result = quantize(path, SimpleNamespace(session=None), batches, None, 0.01, False)
    assert result.kept == ['head.fc_cls (last layer)'] and float_products(path) == {'product2'}

// Costs and outputs of a network over all samples of a plan, a minibatch at a time, by one thread.
#pragma once
#include "cpu/minibatch.h"

// The cost is added to the plan's, where there are targets; outputs are written where there is room.
template <typename T> void evaluate(const EpochPlan& p) {
    const int64_t columns = p.sizes[p.layers];
    Layers<T> layers(p);
    layers.trains = false;
    if (layers.encoded) layers.encoded->take_over(layers.W[0], nullptr, nullptr);
    if (layers.sparse) layers.sparse->take_over(layers.W[0], nullptr, nullptr);
    for (int64_t k = 0; k * p.batch < p.samples && !layers.stopped(); ++k) {
        const Minibatch<T> step(p, k);
        step.gather(layers, {0, step.m, 0, 0});
        for (int64_t l = 0; l < p.layers; ++l)
            layers.forward(l, step.input(layers, l), 0, {0, step.m, 0, p.sizes[l + 1]});
        if (p.y) *p.cost += step.output_delta(layers, 0, step.m, T(0));
        if (p.outputs)
            output_layer::outputs(layers.last_rows(0, step.m), static_cast<T*>(p.outputs) + step.start * columns);
    }
}

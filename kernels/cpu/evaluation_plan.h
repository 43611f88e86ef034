// What an evaluation of a network over dense rows is told of the network: the same for every call.
#pragma once
#include "shared/names.cuh"

#include <cstdint>

extern "C" struct EvaluationPlan {
    int64_t layers;              // weight matrices
    const int64_t* sizes;        // (layers + 1,)
    const int64_t* activations;  // (layers,), numbers as in names.cuh
    int64_t loss;                // its number, as in names.cuh; any number where there are no targets
    const void* parameters;      // all weights, layer by layer, then all biases
};

DELTAPROP_EXPORT_SIZE(EvaluationPlan)

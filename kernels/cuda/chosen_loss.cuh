// A loss with its output activation chosen at launch, by their places in src/deltaprop/backends/places.py.
#pragma once
#include "shared/loss.cuh"
#include "cuda/real.cuh"

struct place {  // of the names in DELTAPROP_FOR_EACH_LOSS
    enum { squared_error, huber, absolute_error, binary_cross_entropy, clipped_binary_cross_entropy,
           categorical_cross_entropy, clipped_categorical_cross_entropy, poisson };
    enum { sigmoid, tanh, relu, leaky_relu, identity, softplus, silu, gelu, exp };
};

// a = g(z), dcost/dz and the cost of one output; false where there is no such pair.
__device__ inline bool chosen_loss(int chosen, int activation, real z, real y, real& a, real& slope, real& cost) {
#define DELTAPROP_DO(LOSS, NAME, G)                               \
    if (chosen == place::LOSS && activation == place::NAME) {     \
        a = G::value(z);                                          \
        slope = loss::LOSS::template delta<G>(z, a, y);           \
        cost = loss::LOSS::template cost<G>(z, a, y);             \
        return true;                                              \
    }
    DELTAPROP_FOR_EACH_LOSS
#undef DELTAPROP_DO
    return false;
}

// An activation chosen at launch, by its place in DELTAPROP_FOR_EACH_ACTIVATION: for kernels that spend little on it.
#pragma once
#include "shared/activation.cuh"
#include "cuda/real.cuh"

__device__ inline real chosen_value(int activation, real z) {
    int place = 0;
#define DO(NAME, G) \
    if (activation == place++) return G::value(z);
    DELTAPROP_FOR_EACH_ACTIVATION(DO)
#undef DO
    return z;
}

__device__ inline real chosen_gradient(int activation, real z) {
    int place = 0;
#define DO(NAME, G) \
    if (activation == place++) return G::gradient(z);
    DELTAPROP_FOR_EACH_ACTIVATION(DO)
#undef DO
    return real(1);
}

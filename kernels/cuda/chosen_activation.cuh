// An activation chosen at launch, by its number: for kernels that spend little on it.
#pragma once
#include "cuda/real.cuh"
#include "shared/names.cuh"

__device__ inline real chosen_value(int activation, real z) {
#define DO(NAME, G) \
    if (activation == activation_number::NAME) return G::value(z);
    DELTAPROP_FOR_EACH_ACTIVATION(DO)
#undef DO
    return z;
}

__device__ inline real chosen_gradient(int activation, real z) {
#define DO(NAME, G) \
    if (activation == activation_number::NAME) return G::gradient(z);
    DELTAPROP_FOR_EACH_ACTIVATION(DO)
#undef DO
    return real(1);
}

// A loss with its output activation chosen at launch, by their numbers.
#pragma once
#include "cuda/real.cuh"
#include "shared/names.cuh"

// a = g(z), dcost/dz and the cost of one output; false where there is no such pair.
__device__ inline bool chosen_loss(int chosen, int activation, real z, real y, real& a, real& slope, real& cost) {
#define DELTAPROP_DO(LOSS, NAME, G)                                                       \
    if (chosen == loss_number::LOSS && activation == activation_number::NAME) {           \
        a = G::value(z);                                                                  \
        slope = loss::LOSS::template delta<G>(z, a, y);                                   \
        cost = loss::LOSS::template cost<G>(z, a, y);                                     \
        return true;                                                                      \
    }
    DELTAPROP_FOR_EACH_PAIR
#undef DELTAPROP_DO
    return false;
}

// The derivative of delta^(L) = scale * dcost/dz^(L) along a direction in which z and a move by dz and da.
//   z, a, y, dz, da, out : (rows, columns), n entries in all    weights : (rows,), may be null (all 1)
#include "shared/activation.cuh"
#include "shared/loss.cuh"
#include "cuda/real.cuh"

#define ARGUMENTS                                                                                                \
    const real *z, const real *a, const real *y, const real *dz, const real *da, const real *weights, real scale, \
        real *out, int columns, long long n

template <class Loss, class G>
__device__ void output_delta_tangent(ARGUMENTS) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        out[i] = (weights ? weights[i / columns] : real(1)) * scale *
                 Loss::template delta_tangent<G>(z[i], a[i], y[i], dz[i], da[i]);
}

#define DELTAPROP_DO(LOSS, NAME, G)                                                  \
    extern "C" __global__ void output_delta_tangent_##LOSS##_##NAME(ARGUMENTS) { \
        output_delta_tangent<loss::LOSS, G>(z, a, y, dz, da, weights, scale, out, columns, n);   \
    }
DELTAPROP_FOR_EACH_PAIR

// delta^(L) = a - y here too, so it moves as a does.
extern "C" __global__ void output_delta_tangent_categorical_cross_entropy_softmax(ARGUMENTS) {
    output_delta_tangent<loss::binary_cross_entropy, activation::sigmoid>(z, a, y, dz, da, weights, scale, out, columns,
                                                                          n);
}
extern "C" __global__ void output_delta_tangent_clipped_categorical_cross_entropy_softmax(ARGUMENTS) {
    output_delta_tangent<loss::binary_cross_entropy, activation::sigmoid>(z, a, y, dz, da, weights, scale, out, columns,
                                                                          n);
}

// The derivative of delta^(l) = v * g'(z), v = W^T delta^(l+1), along a direction in which v and z move by dv and dz:
// dv * g'(z) + v * g''(z) * dz, after the matrix products have written dv into out.
//   v, z, dz, out : n entries
#include "shared/activation.cuh"
#include "cuda/real.cuh"

template <class G>
__device__ void hidden_delta_tangent(const real* v, const real* z, const real* dz, real* out, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        out[i] = out[i] * G::gradient(z[i]) + v[i] * G::curvature(z[i]) * dz[i];
}

#define DEFINE(NAME, G)                                                                                          \
    extern "C" __global__ void hidden_delta_tangent_##NAME(const real* v, const real* z, const real* dz, real* out, \
                                                           long long n) {                                        \
        hidden_delta_tangent<G>(v, z, dz, out, n);                                                               \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)

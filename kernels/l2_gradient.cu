// dJ/dW += lambda W over the weights of the flat vector: the gradient of lambda/2 sum W^2. Biases are not in n.
#include "real.cuh"

extern "C" __global__ void l2_gradient(const real* weights, real lambda, real* gradient, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        gradient[i] += lambda * weights[i];
}

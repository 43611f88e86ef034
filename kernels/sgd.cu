// theta := theta - eta dJ/dtheta over the flat vector, with classical or Nesterov momentum.
#include "real.cuh"

#define FOR_EACH_PARAMETER(I, N)                                                                      \
    for (long long I = (long long)blockIdx.x * blockDim.x + threadIdx.x; I < (N); \
         I += (long long)gridDim.x * blockDim.x)

extern "C" __global__ void sgd(real* theta, const real* gradient, real learning_rate, long long n) {
    FOR_EACH_PARAMETER(i, n) theta[i] -= learning_rate * gradient[i];
}

// v := mu v - eta dJ/dtheta;  theta := theta + v
extern "C" __global__ void sgd_momentum(real* theta, const real* gradient, real* velocity, real learning_rate,
                                        real momentum, long long n) {
    FOR_EACH_PARAMETER(i, n) {
        const real v = momentum * velocity[i] - learning_rate * gradient[i];
        velocity[i] = v;
        theta[i] += v;
    }
}

// v := mu v - eta dJ/dtheta;  theta := theta + mu v - eta dJ/dtheta
extern "C" __global__ void sgd_nesterov(real* theta, const real* gradient, real* velocity, real learning_rate,
                                        real momentum, long long n) {
    FOR_EACH_PARAMETER(i, n) {
        const real step = learning_rate * gradient[i];
        const real v = momentum * velocity[i] - step;
        velocity[i] = v;
        theta[i] += momentum * v - step;
    }
}

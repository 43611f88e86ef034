// Adam (Kingma and Ba, 2015, the form of section 2 with the bias corrections folded into the step size) over the
// flat vector. decay = eta * lambda shrinks the first n_decayed entries (the weights) before the step: AdamW.
#include "real.cuh"

extern "C" __global__ void adam(real* theta, const real* gradient, real* first_moment, real* second_moment,
                                real step_size, real beta_1, real beta_2, real epsilon, real decay,
                                long long n_decayed, long long n) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const real g = gradient[i];
        const real m = beta_1 * first_moment[i] + (real(1) - beta_1) * g;
        const real v = beta_2 * second_moment[i] + (real(1) - beta_2) * (g * g);
        first_moment[i] = m;
        second_moment[i] = v;
        const real t = i < n_decayed ? theta[i] - decay * theta[i] : theta[i];
        theta[i] = t - step_size * m / (sqrt(v) + epsilon);
    }
}

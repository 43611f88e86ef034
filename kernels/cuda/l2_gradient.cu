// dJ/dW += lambda W over the weights of the flat vector: the gradient of lambda/2 sum W^2. Biases are not in n.
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

extern "C" __global__ void l2_gradient(const real* weights, real at_launch, const real* on_device, real* gradient,
                                       long long n) {
    const real lambda = number(at_launch, on_device);
    over_entries<real>(n, aligned(weights, gradient), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        const Pack<real, N> w = load_pack<real, N>(weights + i);
        Pack<real, N> g = load_pack<real, N>(gradient + i);
        for (int j = 0; j < N; ++j) g.entry[j] += lambda * w.entry[j];
        store_pack<real, N>(gradient + i, g);
    });
}

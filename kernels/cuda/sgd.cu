// theta := theta - eta dJ/dtheta over the flat vector, with classical or Nesterov momentum.
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

extern "C" __global__ void sgd(real* theta, const real* gradient, real rate, const real* rate_on_device, long long n) {
    const real learning_rate = number(rate, rate_on_device);
    over_entries<real>(n, aligned(theta, gradient), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        Pack<real, N> t = load_pack<real, N>(theta + i);
        const Pack<real, N> g = load_pack<real, N>(gradient + i);
        for (int j = 0; j < N; ++j) t.entry[j] -= learning_rate * g.entry[j];
        store_pack<real, N>(theta + i, t);
    });
}

// v := mu v - eta dJ/dtheta;  theta := theta + v, or, looking ahead, theta + mu v - eta dJ/dtheta
template <bool AHEAD>
__device__ void with_momentum(real* theta, const real* gradient, real* velocity, real learning_rate, real momentum,
                              long long n) {
    over_entries<real>(n, aligned(theta, gradient, velocity), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        Pack<real, N> t = load_pack<real, N>(theta + i), v = load_pack<real, N>(velocity + i);
        const Pack<real, N> g = load_pack<real, N>(gradient + i);
        for (int j = 0; j < N; ++j) {
            const real step = learning_rate * g.entry[j];
            v.entry[j] = momentum * v.entry[j] - step;
            t.entry[j] += AHEAD ? momentum * v.entry[j] - step : v.entry[j];
        }
        store_pack<real, N>(velocity + i, v);
        store_pack<real, N>(theta + i, t);
    });
}

extern "C" __global__ void sgd_momentum(real* theta, const real* gradient, real* velocity, real rate,
                                        const real* rate_on_device, real momentum, long long n) {
    with_momentum<false>(theta, gradient, velocity, number(rate, rate_on_device), momentum, n);
}

extern "C" __global__ void sgd_nesterov(real* theta, const real* gradient, real* velocity, real rate,
                                        const real* rate_on_device, real momentum, long long n) {
    with_momentum<true>(theta, gradient, velocity, number(rate, rate_on_device), momentum, n);
}

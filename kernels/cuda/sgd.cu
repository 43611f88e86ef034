// theta := theta - eta dJ/dtheta over the flat vector, with classical or Nesterov momentum.
#include "cuda/pack.cuh"
#include "cuda/real.cuh"
#include "shared/optimizer.cuh"

extern "C" __global__ void sgd(real* theta, const real* gradient, real rate, const real* rate_on_device, long long n) {
    const optimizer::Numbers<real> numbers{number(rate, rate_on_device)};
    over_entries<real>(n, aligned(theta, gradient), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        Pack<real, N> t = load_pack<real, N>(theta + i);
        const Pack<real, N> g = load_pack<real, N>(gradient + i);
        real none = 0;
        for (int j = 0; j < N; ++j) t.entry[j] = optimizer::sgd::step(t.entry[j], g.entry[j], none, none, numbers);
        store_pack<real, N>(theta + i, t);
    });
}

template <class Rule>
__device__ void with_momentum(real* theta, const real* gradient, real* velocity, real learning_rate, real momentum,
                              long long n) {
    const optimizer::Numbers<real> numbers{learning_rate, momentum};
    over_entries<real>(n, aligned(theta, gradient, velocity), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        Pack<real, N> t = load_pack<real, N>(theta + i), v = load_pack<real, N>(velocity + i);
        const Pack<real, N> g = load_pack<real, N>(gradient + i);
        real none = 0;
        for (int j = 0; j < N; ++j) t.entry[j] = Rule::step(t.entry[j], g.entry[j], v.entry[j], none, numbers);
        store_pack<real, N>(velocity + i, v);
        store_pack<real, N>(theta + i, t);
    });
}

extern "C" __global__ void sgd_momentum(real* theta, const real* gradient, real* velocity, real rate,
                                        const real* rate_on_device, real momentum, long long n) {
    with_momentum<optimizer::momentum>(theta, gradient, velocity, number(rate, rate_on_device), momentum, n);
}

extern "C" __global__ void sgd_nesterov(real* theta, const real* gradient, real* velocity, real rate,
                                        const real* rate_on_device, real momentum, long long n) {
    with_momentum<optimizer::nesterov>(theta, gradient, velocity, number(rate, rate_on_device), momentum, n);
}

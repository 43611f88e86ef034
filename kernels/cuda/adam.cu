// Adam over the flat vector. decay = eta * lambda shrinks the first n_decayed entries (the weights) before the step:
// AdamW.
#include "cuda/pack.cuh"
#include "cuda/real.cuh"
#include "shared/optimizer.cuh"

extern "C" __global__ void adam(real* theta, const real* gradient, real* first_moment, real* second_moment,
                                real rate, const real* rate_on_device, real beta_1, real beta_2, real epsilon,
                                real decay_at_launch, const real* decay_on_device, long long n_decayed, long long n) {
    const real decay = number(decay_at_launch, decay_on_device);
    const optimizer::Numbers<real> numbers{number(rate, rate_on_device), real(0), beta_1, beta_2, epsilon};
    over_entries<real>(n, aligned(theta, gradient, first_moment, second_moment), [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        Pack<real, N> t = load_pack<real, N>(theta + i), first = load_pack<real, N>(first_moment + i);
        Pack<real, N> second = load_pack<real, N>(second_moment + i);
        const Pack<real, N> g = load_pack<real, N>(gradient + i);
        for (int j = 0; j < N; ++j) {
            const real kept = i + j < n_decayed ? optimizer::decayed(t.entry[j], decay) : t.entry[j];
            t.entry[j] = optimizer::adam::step(kept, g.entry[j], first.entry[j], second.entry[j], numbers);
        }
        store_pack<real, N>(theta + i, t);
        store_pack<real, N>(first_moment + i, first);
        store_pack<real, N>(second_moment + i, second);
    });
}

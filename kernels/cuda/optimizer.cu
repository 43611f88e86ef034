// A step over the flat vector, theta, by each of the update rules: one kernel a rule.
#include "cuda/pack.cuh"
#include "cuda/real.cuh"
#include "shared/names.cuh"

// Weight decay takes the share `decay` off the first n_decayed entries before the step.
template <class Rule>
__device__ void update(real* theta, const real* gradient, real* first_moment, real* second_moment, real rate,
                       real decay, long long n_decayed, const optimizer::Constants<real>& constants, long long n) {
    const bool packed = aligned(theta, gradient) && (Rule::moments < 1 || aligned(first_moment)) &&
                        (Rule::moments < 2 || aligned(second_moment));
    over_entries<real>(n, packed, [&](auto width, long long i) {
        constexpr int N = decltype(width)::entries;
        Pack<real, N> t = load_pack<real, N>(theta + i), first{}, second{};
        if (Rule::moments > 0) first = load_pack<real, N>(first_moment + i);
        if (Rule::moments > 1) second = load_pack<real, N>(second_moment + i);
        const Pack<real, N> g = load_pack<real, N>(gradient + i);
        for (int j = 0; j < N; ++j) {
            const real kept = Rule::decays && i + j < n_decayed ? optimizer::decayed(t.entry[j], decay) : t.entry[j];
            t.entry[j] = Rule::step(kept, g.entry[j], first.entry[j], second.entry[j], rate, constants);
        }
        store_pack<real, N>(theta + i, t);
        if (Rule::moments > 0) store_pack<real, N>(first_moment + i, first);
        if (Rule::moments > 1) store_pack<real, N>(second_moment + i, second);
    });
}

// A rule without moments gets null for them.
#define DELTAPROP_ARGUMENT(NAME) real NAME,
#define DELTAPROP_VALUE(NAME) NAME,
#define DELTAPROP_KERNEL(RULE, MOMENTS)                                                                             \
    extern "C" __global__ void update_##RULE(real* theta, const real* gradient, real* first, real* second,          \
                                             real rate, const real* rate_on_device, real decay,                     \
                                             const real* decay_on_device, long long n_decayed,                      \
                                             DELTAPROP_FOR_EACH_CONSTANT(DELTAPROP_ARGUMENT) long long n) {         \
        update<optimizer::RULE>(theta, gradient, first, second, number(rate, rate_on_device),                       \
                                optimizer::RULE::decays ? number(decay, decay_on_device) : real(0), n_decayed,      \
                                {DELTAPROP_FOR_EACH_CONSTANT(DELTAPROP_VALUE)}, n);                                 \
    }
DELTAPROP_FOR_EACH_OPTIMIZER(DELTAPROP_KERNEL)

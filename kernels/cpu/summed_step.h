// One step of the update rule by a gradient that several processes have added up; all threads share the entries.
#pragma once
#include "cpu/layers.h"
#include "cpu/minibatch.h"
#include "cpu/thread_pool.h"
#include "cpu/update.h"

#include <algorithm>
#include <cstdint>
#include <vector>

template <typename T> class SummedStep {
public:
    explicit SummedStep(const EpochPlan& plan) : p(without_gradient(plan)), layers_(p), update_(p, layers_) {
        for (int64_t l = 0; l < p.layers; ++l) {
            weights_ += p.sizes[l] * p.sizes[l + 1];
            biases_ += p.sizes[l + 1];
        }
    }

    // Moves the parameters by `gradient`, in their order, in the step of the plan's first minibatch. What the penalty
    // adds to the cost of the epoch is added to the plan's `decay`. The gradient may be changed.
    void operator()(T* gradient) const {
        const int parts = int(p.threads);
        std::vector<double> decays(parts, 0.0);
        const Minibatch<T> step(p, 0);
        threads::in_phases(1, parts, parts, [&](int64_t, int part, int) {
            const int64_t from = bound(part), to = bound(part + 1);
            T* theta = static_cast<T*>(p.parameters);
            decays[part] = update_.decay(step, theta + from, to - from);
            update_.move_weights(step, update_.entries(theta + from), gradient + from, to - from);
            if (part == 0)
                update_.move(step, update_.entries(theta + weights_), gradient + weights_, biases_, false);
        });
        for (double decay : decays) *p.decay += decay;
    }

private:
    const EpochPlan p;
    const Layers<T> layers_;
    const Update<T> update_;
    int64_t weights_ = 0, biases_ = 0;

    static EpochPlan without_gradient(EpochPlan plan) {
        plan.gradient = nullptr;
        return plan;
    }

    // Where the weights of a part begin: at the beginning of a cache line.
    int64_t bound(int64_t part) const {
        return part == p.threads ? weights_ : weights_ * part / p.threads / 16 * 16;
    }
};

// The library of the CPU: what Python calls. -DDELTAPROP_REAL=float or double is the type.
#ifndef DELTAPROP_REAL  // in an editor
#define DELTAPROP_REAL float
#endif
#include "cpu/curvature.h"
#include "cpu/dense_evaluation.h"
#include "cpu/epoch.h"
#include "cpu/epoch_plan.h"
#include "cpu/evaluation.h"
#include "cpu/gradient.h"
#include "cpu/shuffle.h"
#include "cpu/summed_step.h"
#include "cpu/thread_pool.h"

#include <cmath>
#include <cstdint>
#include <limits>

extern "C" int64_t scratch_entries(const EpochPlan* plan) { return Epoch<DELTAPROP_REAL>::scratch_entries(*plan); }

// Trains a network; up to plan->threads threads share each step.
extern "C" void run(const EpochPlan* plan) { Epoch<DELTAPROP_REAL>{*plan}(); }

// Takes the step of the plan's first minibatch with a gradient that is known; see SummedStep.
extern "C" void apply(const EpochPlan* plan) {
    SummedStep<DELTAPROP_REAL>{*plan}(static_cast<DELTAPROP_REAL*>(plan->gradient));
}

namespace {

// run(plan) for the plans that `which`, (count,), names, in this order, each by one thread at a time. The scratch of
// the first plan has room for each of `threads` threads, `stride` entries apart.
template <class Do>
void each_member(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads, int64_t stride, Do run) {
    std::atomic<int64_t> next{0};
    threads::in_phases(1, int(threads), int(threads), [&](int64_t, int part, int) {
        for (int64_t i; (i = next.fetch_add(1)) < count;) {
            EpochPlan plan = plans[which[i]];
            if (plan.stop && *plan.stop) return;
            plan.threads = 1;
            plan.scratch = static_cast<DELTAPROP_REAL*>(plans[0].scratch) + part * stride;
            run(plan);
        }
    });
}

}  // namespace

// Trains several networks; see each_member.
extern "C" void run_members(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads,
                            int64_t stride) {
    each_member(plans, which, count, threads, stride, [](const EpochPlan& plan) { Epoch<DELTAPROP_REAL>{plan}(); });
}

// The costs of several networks, and their outputs, over all samples of each; see each_member.
extern "C" void evaluate_members(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads,
                                 int64_t stride) {
    each_member(plans, which, count, threads, stride,
                [](const EpochPlan& plan) { evaluate<DELTAPROP_REAL>(plan); });
}

// The cost and the gradient of a network over all samples, see Gradient; up to plan->threads threads share the work.
extern "C" void gradient(const EpochPlan* plan, DELTAPROP_REAL* out) {
    Gradient<DELTAPROP_REAL>{*plan}(out, static_cast<const DELTAPROP_REAL*>(plan->parameters));
}

extern "C" int64_t gradient_scratch_entries(const EpochPlan* plan) {
    return Gradient<DELTAPROP_REAL>{*plan}.scratch_entries();
}

// The Hessian times a direction, in the same way, see HessianProduct.
extern "C" void hessian_product(const EpochPlan* plan, const DELTAPROP_REAL* direction, DELTAPROP_REAL* out) {
    HessianProduct<DELTAPROP_REAL>{*plan, direction}(out);
}

extern "C" int64_t hessian_product_scratch_entries(const EpochPlan* plan) {
    return HessianProduct<DELTAPROP_REAL>{*plan, nullptr}.scratch_entries();
}

// Evaluates a network over `rows` dense rows; dense_evaluation.h says what it returns and what the pointers are.
extern "C" int64_t evaluate(const EvaluationPlan* plan, const void* x, int64_t rows, const void* y, const void* weights,
                            void* outputs, int64_t* largest, double* cost, int64_t threads, int64_t of_rows) {
    typedef DELTAPROP_REAL T;
    const dense_evaluation::Call<T> call{static_cast<const T*>(x), rows,    static_cast<const T*>(y),
                                         static_cast<const T*>(weights), static_cast<T*>(outputs), largest, cost,
                                         threads, of_rows};
    return dense_evaluation::Evaluation<T>(*plan, call)();
}

// Whether an array holds neither nan nor infinity.
extern "C" int64_t all_finite(const DELTAPROP_REAL* array, int64_t entries) {
    int wrong = 0;
    for (int64_t i = 0; i < entries; ++i) wrong |= !(std::abs(array[i]) <= std::numeric_limits<DELTAPROP_REAL>::max());
    return !wrong;
}

// Shuffles an order as NumPy's RandomState does, with its generator, whose address NumPy has put into a capsule.
extern "C" void shuffle(const void* generator, int64_t* order, int64_t samples) {
    void* state = static_cast<const shuffling::Generator*>(generator)->state;
    shuffling::shuffle(*static_cast<shuffling::Twister*>(state), order, samples);
}

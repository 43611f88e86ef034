// The library of the CPU: what Python calls. -DDELTAPROP_REAL=float or double is the type.
#ifndef DELTAPROP_REAL  // in an editor
#define DELTAPROP_REAL float
#endif
#include "cpu/dense_evaluation.h"
#include "cpu/epoch.h"
#include "cpu/epoch_plan.h"
#include "cpu/evaluation.h"
#include "cpu/thread_pool.h"

#include <cstdint>

extern "C" int64_t scratch_entries(const EpochPlan* plan) { return Layers<DELTAPROP_REAL>::scratch_entries(*plan); }

// Trains a network; up to plan->threads threads share each step.
extern "C" void run(const EpochPlan* plan) { Epoch<DELTAPROP_REAL>{*plan}(); }

namespace {

// run(plan) for the plans that `which`, (count,), names, in this order, each by one thread at a time. The scratch of
// the first plan has room for each of `threads` threads, `stride` entries apart.
template <class Do>
void each_member(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads, int64_t stride, Do run) {
    std::atomic<int64_t> next{0};
    threads::run(int(threads), [&](int thread) {
        for (int64_t i; (i = next.fetch_add(1)) < count;) {
            EpochPlan plan = plans[which[i]];
            if (plan.stop && *plan.stop) return;
            plan.threads = 1;
            plan.scratch = static_cast<DELTAPROP_REAL*>(plans[0].scratch) + thread * stride;
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

// Evaluates a network over `rows` dense rows; dense_evaluation.h says what it returns and what the pointers are.
extern "C" int64_t evaluate(const EvaluationPlan* plan, const void* x, int64_t rows, const void* y, const void* weights,
                            void* outputs, int64_t* largest, double* cost, int64_t threads) {
    typedef DELTAPROP_REAL T;
    const dense_evaluation::Call<T> call{static_cast<const T*>(x), rows,    static_cast<const T*>(y),
                                         static_cast<const T*>(weights), static_cast<T*>(outputs), largest, cost,
                                         threads};
    return dense_evaluation::Evaluation<T>(*plan, call)();
}

// Sums over all samples of a vector as long as the parameters, such as the gradient, by several threads.
//
// The samples fall into parts. Each part adds up a vector of its own, a block of rows at a time; then the vectors are
// added in the order of the parts. So the sum does not depend on which thread takes which part. Where the vectors are
// small there are more parts than threads, so that a thread that loses its core holds up the others by one part only,
// and the sum does not depend on the number of threads either. Larger vectors, which would take much memory, have a
// part a thread.
#pragma once
#include "cpu/layers.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

template <typename T> class RowSums {
public:
    explicit RowSums(const EpochPlan& plan) : p(plan) {
        int64_t widths = 0;
        for (int64_t l = 0; l < p.layers; ++l) {
            weights_ += p.sizes[l] * p.sizes[l + 1];
            widths += p.sizes[l + 1];
        }
        entries_ = weights_ + widths;
        // As many rows as leave room in the second-level cache for z, a and delta.
        const int64_t a_row = 3 * widths * int64_t(sizeof(T));
        const int64_t rows = std::clamp(IN_CACHE / a_row, FEWEST_ROWS, MOST_ROWS);
        const int64_t most = std::max<int64_t>(1, p.samples / ROWS_A_PART);
        if (entries_ * int64_t(sizeof(T)) > SMALL_VECTOR) parts_ = std::min(p.threads, most);
        else
            while (2 * parts_ <= std::min(MOST_PARTS, most)) parts_ *= 2;
        block_ = std::max<int64_t>(1, std::min(rows, (p.samples + parts_ - 1) / parts_));
    }

    // The plan of one thread, whose `batch` is the size of a block; its scratch has `stride` entries.
    EpochPlan of_thread(int thread, int64_t stride) const {
        EpochPlan plan = p;
        plan.threads = 1;
        plan.batch = block_;
        plan.scratch = static_cast<T*>(p.scratch) + thread * stride;
        return plan;
    }

    // Scratch in all, if each thread needs `stride` entries.
    int64_t scratch_entries(int64_t stride) const { return p.threads * stride + (parts_ - 1) * padded_entries(); }

    // out := the sum, and the penalty's factor times the first entries of `penalized`, as many as there are weights.
    // start(plan) makes what a thread works with. add(worker, from, to, vector, first) adds the rows `from` to `to` to
    // the vector, or writes them there if they are the first; it returns their cost. Adds the cost to the plan's and,
    // where there is a penalty, the sum of the squares of the weights to the plan's decay.
    template <class Start, class Add>
    void operator()(int64_t stride, T* out, const T* penalized, Start start, Add add) const {
        std::vector<double> costs(parts_), squares(parts_);
        T* others = static_cast<T*>(p.scratch) + p.threads * stride;
        const auto vector = [&](int64_t part) { return part ? others + (part - 1) * padded_entries() : out; };
        const int64_t threads = std::min(p.threads, parts_);
        std::vector<EpochPlan> plans;
        for (int64_t thread = 0; thread < threads; ++thread) plans.push_back(of_thread(thread, stride));
        std::vector<std::optional<decltype(start(p))>> workers(threads);
        threads::in_phases(2, int(parts_), int(threads), [&](int64_t phase, int part, int thread) {
            if (phase == 1) {
                squares[part] = add_parts(part, vector, out, penalized);
                return;
            }
            if (!workers[thread]) workers[thread].emplace(start(plans[thread]));
            costs[part] = sum_part(*workers[thread], part, vector(part), add);
        });
        for (int64_t part = 0; part < parts_; ++part) {
            *p.cost += costs[part];
            *p.decay += squares[part];
        }
    }

private:
    static constexpr int64_t IN_CACHE = 640 << 10, FEWEST_ROWS = 256, MOST_ROWS = 512;
    static constexpr int64_t MOST_PARTS = 16, ROWS_A_PART = 128, SMALL_VECTOR = 1 << 20;

    const EpochPlan& p;
    int64_t weights_ = 0, entries_ = 0, parts_ = 1, block_ = 1;

    int64_t padded_entries() const { return Layers<T>::padded(entries_); }
    bool stopped() const { return p.stop && *p.stop; }

    template <class Worker, class Add> double sum_part(Worker& worker, int64_t part, T* vector, Add add) const {
        const int64_t from = p.samples * part / parts_, rows = p.samples * (part + 1) / parts_ - from;
        const int64_t blocks = (rows + block_ - 1) / block_;
        double cost = 0;
        if (rows == 0) std::fill_n(vector, entries_, T(0));
        for (int64_t k = 0; k < blocks && !stopped(); ++k)
            cost += add(worker, from + rows * k / blocks, from + rows * (k + 1) / blocks, vector, k == 0);
        return cost;
    }

    // A share of the entries of all vectors, into `out`; returns the squares of the weights among them.
    template <class Vector>
    double add_parts(int64_t share, Vector vector, T* __restrict__ out, const T* penalized) const {
        if (stopped()) return 0;
        const int64_t from = entries_ * share / parts_, to = entries_ * (share + 1) / parts_;
        for (int64_t part = 1; part < parts_; ++part) {
            const T* __restrict__ other = vector(part);
            for (int64_t i = from; i < to; ++i) out[i] += other[i];
        }
        const T penalty = T(p.penalties[0]);
        const int64_t last = std::min(to, weights_);
        if (p.penalties[0] == 0.0 || from >= last) return 0;
        for (int64_t i = from; i < last; ++i) out[i] += penalty * penalized[i];
        const T* w = static_cast<const T*>(p.parameters);
        const int64_t AT_ONCE = 4096;
        double squares = 0;
        for (int64_t i = from; i < last; i += AT_ONCE)
            squares += Layers<T>::squared_norm(w + i, std::min(AT_ONCE, last - i));
        return squares;
    }
};

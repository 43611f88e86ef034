// From the number of an activation, a loss or an optimizer to its arithmetic: f is called with a value of its type.
// Where the number is a constant nothing is left of the choice.
#pragma once
#include "shared/names.cuh"

// A number that names no activation calls nothing.
template <class F> __host__ __device__ inline void with_activation(int number, F f) {
#define DELTAPROP_CALL(NAME, G) \
    if (number == activation_number::NAME) return f(G{});
    DELTAPROP_FOR_EACH_ACTIVATION(DELTAPROP_CALL)
#undef DELTAPROP_CALL
}

// f(loss, activation) for a loss and an output activation that acts on one element at a time; false where no such pair
// is.
template <class F> __host__ __device__ inline bool with_loss(int loss, int activation, F f) {
#define DELTAPROP_DO(LOSS, NAME, G)                                             \
    if (loss == loss_number::LOSS && activation == activation_number::NAME) {   \
        f(loss::LOSS{}, G{});                                                   \
        return true;                                                            \
    }
    DELTAPROP_FOR_EACH_PAIR
#undef DELTAPROP_DO
    return false;
}

// Returns what f returns; a number that names no optimizer is taken for plain descent.
template <class F> __host__ __device__ inline auto with_optimizer(int number, F f) {
#define DELTAPROP_CALL(NAME, MOMENTS)                                                                      \
    static_assert(optimizer::NAME::moments == MOMENTS, "the table of optimizer.cuh and " #NAME " differ"); \
    if (number == optimizer_number::NAME) return f(optimizer::NAME{});
    DELTAPROP_FOR_EACH_OPTIMIZER(DELTAPROP_CALL)
#undef DELTAPROP_CALL
    return f(optimizer::sgd{});
}

template <typename T> __host__ __device__ inline T chosen_value(int activation, T z) {
    T a = z;
    with_activation(activation, [&](auto g) { a = decltype(g)::value(z); });
    return a;
}

template <typename T> __host__ __device__ inline T chosen_gradient(int activation, T z) {
    T slope = T(1);
    with_activation(activation, [&](auto g) { slope = decltype(g)::gradient(z); });
    return slope;
}

// Of a row, every `step`-th output from `first` on: delta = scale * dcost/dz, and the cost, which is returned. z is a
// function of the column.
#ifdef __CUDACC__
#define DELTAPROP_ROLLED _Pragma("unroll 1")
#else
#define DELTAPROP_ROLLED
#endif
template <class Loss, class G, typename T, typename Integer, class Z>
__host__ __device__ inline T loss_row(Integer first, Integer step, Integer columns, Z z, const T* y, T* delta,
                                      T scale) {
    T cost = 0;
    DELTAPROP_ROLLED
    for (Integer j = first; j < columns; j += step) {
        const T zj = z(j), a = G::value(zj);
        cost += Loss::template cost<G>(zj, a, y[j]);
        delta[j] = scale * Loss::template delta<G>(zj, a, y[j]);
    }
    return cost;
}
#undef DELTAPROP_ROLLED

// Matrix products by the sgemm or dgemm that the caller of the library passes.
#pragma once
#include <cstdint>

namespace blas {

// Floating-point operations after which a thread looks whether it is to stop, however large a step is: some tenths of a
// second of one core. Nothing that is smaller is divided for it.
const double OPERATIONS_AT_ONCE = 4e9;

// C (rows, columns) := alpha op(A) op(B) + beta C, all row-major; a large one by halves of its longest side. `gemm` has
// Fortran's interface, which takes a row-major matrix for its transpose. Once `stop` is set nothing more is computed.
template <typename T> struct Product {
    void* gemm;
    const volatile int32_t* stop;

    void operator()(char of_b, char of_a, int64_t columns, int64_t rows, int64_t inner, T alpha, const T* B,
                    int64_t b_stride, const T* A, int64_t a_stride, T beta, T* C, int64_t c_stride) const {
        if (stop && *stop) return;
        if (2.0 * double(columns) * double(rows) * double(inner) > OPERATIONS_AT_ONCE) {
            const auto half = [](int64_t side) { return side / 2 / 16 * 16; };
            const auto beside = [](char of, int64_t row, int64_t column, int64_t stride) {
                return of == 'N' ? row * stride + column : column * stride + row;
            };
            int64_t of_columns = columns, of_rows = rows, of_inner = inner, row = 0, column = 0, k = 0;
            if (inner >= rows && inner >= columns) of_inner = k = half(inner);
            else if (rows >= columns) of_rows = row = half(rows);
            else of_columns = column = half(columns);
            (*this)(of_b, of_a, of_columns, of_rows, of_inner, alpha, B, b_stride, A, a_stride, beta, C, c_stride);
            return (*this)(of_b, of_a, columns - column, rows - row, inner - k, alpha,
                           B + beside(of_b, k, column, b_stride), b_stride, A + beside(of_a, row, k, a_stride),
                           a_stride, k ? T(1) : beta, C + row * c_stride + column, c_stride);
        }
        typedef void (*Function)(char*, char*, int*, int*, int*, T*, T*, int*, T*, int*, T*, T*, int*);
        int n = int(columns), m = int(rows), k = int(inner);
        int ldb = int(b_stride), lda = int(a_stride), ldc = int(c_stride);
        reinterpret_cast<Function>(gemm)(&of_b, &of_a, &n, &m, &k, &alpha, const_cast<T*>(B), &ldb, const_cast<T*>(A),
                                         &lda, &beta, C, &ldc);
    }
};

}  // namespace blas

// real: the type arithmetic is done in; storage: the type arrays hold. Chosen when a file is compiled:
// -DDELTAPROP_REAL=float or double, the latter with -DDELTAPROP_DOUBLE, and -DDELTAPROP_HALF for float16 arrays or
// -DDELTAPROP_BFLOAT16 for bfloat16 ones, computed in float.
#pragma once

// In an editor, no type is chosen.
#ifndef DELTAPROP_REAL
#define DELTAPROP_REAL float
#endif
typedef DELTAPROP_REAL real;

// A number of a step is known when a kernel is launched or, where the pointer is not null, stands on the device.
__device__ inline real number(real at_launch, const real* on_device) { return on_device ? *on_device : at_launch; }

#ifdef DELTAPROP_HALF
// Two conversions need no header; cuda_fp16.h would have to be found on the user's machine.
typedef unsigned short storage;
__device__ inline real load(storage h) {
    real x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}
__device__ inline storage store(real x) {
    storage h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
#elif defined(DELTAPROP_BFLOAT16)
#include "cuda/bfloat16.cuh"
typedef unsigned short storage;
__device__ inline real load(storage x) { return from_bfloat16(x); }
__device__ inline storage store(real x) { return to_bfloat16(x); }
#else
typedef real storage;
__device__ inline real load(storage x) { return x; }
__device__ inline storage store(real x) { return x; }
#endif

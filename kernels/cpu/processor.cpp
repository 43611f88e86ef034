// What an x86-64 processor can do, and what its operating system saves when it switches threads. This file is a library of
// its own, compiled for every x86-64 processor: it is loaded before any library that needs more than that.
// backends/native/variants.py names the bits.
#include <cpuid.h>

#include <cstdint>

extern "C" __attribute__((visibility("default"))) void processor_features(uint32_t* words) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    words[0] = words[1] = words[2] = words[3] = 0;
    if (__get_cpuid(1, &a, &b, &c, &d)) words[0] = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) words[1] = b;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) words[2] = c;
    const uint32_t OSXSAVE = 1u << 27;  // xgetbv may be used
    if (words[0] & OSXSAVE) __asm__ volatile("xgetbv" : "=a"(words[3]), "=d"(d) : "c"(0));
}

/* The search compiled for AVX2 alone (see support_search_portable.c). */
#pragma GCC target("avx2")
#define EVERY_ISA
#define vsq4z_quantize_row  avx2_quantize_row
#define vsq4z_choose_vector avx2_choose_vector
#define vsq4z_nearest       avx2_nearest
#define search_scratch      avx2_search_scratch
#include "quant/search.c"

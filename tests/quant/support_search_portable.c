/* The search compiled for the base instruction set alone: what the one that chooses at run time
 * must equal, bit for bit. */
#define EVERY_ISA
#define vsq4z_quantize_row  portable_quantize_row
#define vsq4z_choose_vector portable_choose_vector
#define vsq4z_nearest       portable_nearest
#define search_scratch      portable_search_scratch
#include "quant/search.c"

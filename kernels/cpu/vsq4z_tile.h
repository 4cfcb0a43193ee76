/* What the VSQ4z products of every instruction set share: the value of an output, and tiles over an
 * expanded panel's int32 sums. Included by kernels_*.c after row_tile.h. */

/* Levels of one column, lanes [part * VL, part * VL + VL), from 4 bits. */
INLINE vi ISA(vsq4z_packed_column)(const struct vsq4z_panel *m, uint32_t column, int part)
{
    vi four, lane;
    vb two;
    __builtin_memcpy(&four, m->codes + (column / 8 * PANEL + part * VL) * 4, sizeof four);
    __builtin_memcpy(&two, m->scales + column / 32 * PANEL + part * VL, sizeof two);
    for (int i = 0; i < VL; i++)
        lane[i] = i + part * VL;
    vi q = four >> (column % 4 * 8 + column / 4 % 2 * 4) & 15;
    vi s = __builtin_convertvector(two, vi) >> column / VSQ4Z_VECTOR % 2 * 4 & 15;
    return s * (q - 7 - (vi_set(m->zeros[column / VSQ4Z_VECTOR]) >> lane & 1));
}

/* The same from an expanded panel. */
INLINE vi ISA(vsq4z_expanded_column)(const unsigned char *expanded, uint32_t column, int part)
{
    vi four;
    __builtin_memcpy(&four, expanded + (column / 4 * PANEL + part * VL) * 4, sizeof four);
    return (four >> column % 4 * 8 & 255) - 128;
}

/* The one definition of a VSQ4z product's value, with S the exact int32 sum of level * a over all
 * inputs: (S * a's scale + each outlier times its column of levels) * the output's scale.
 * `expanded`: NULL, or where the panel's levels lie ready. */
INLINE vf ISA(vsq4z_value)(const struct product *p, const struct vsq4z_panel *m,
                           const unsigned char *expanded, int64_t row, vi sums, int part)
{
    const struct outliers *outliers = &p->in.outliers[row];
    vf value = __builtin_convertvector(sums, vf) * p->in.scale[row];
    UNROLL for (int o = 0; o < OUTLIERS; o++)
    {
        uint32_t column = (uint32_t)outliers->column[o];
        vi levels = expanded ? ISA(vsq4z_expanded_column)(expanded, column, part)
                             : ISA(vsq4z_packed_column)(m, column, part);
        value = vf_fma(vf_set(outliers->value[o]), __builtin_convertvector(levels, vf), value);
    }
    return value * vf_load(m->row_scale + part * VL);
}

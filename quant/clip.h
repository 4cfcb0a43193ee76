/* How far a scale reaches: a choice that every format of quant/ has. */
#ifndef QUANT_CLIP_H
#define QUANT_CLIP_H

enum clip {
    CLIP_MAX,    /* to the largest value */
    CLIP_OCTAV,  /* to the clip that quant/octav.h finds */
    CLIP_SEARCH, /* to where the error is least, by trying */
};

static inline const char *clip_name(enum clip clip)
{
    return clip == CLIP_MAX ? "max" : clip == CLIP_OCTAV ? "octav" : "search";
}

#endif
